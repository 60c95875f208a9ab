import { existsSync } from "node:fs";
import { expect, test } from "vitest";
import { findDockerRegistry, startDockerRegistry } from "../src/index.ts";

test.skipIf(findDockerRegistry() === undefined)("starts docker-registry and leaves nothing behind", async () => {
  const registry = await startDockerRegistry();
  const answer = await fetch(`http://${registry.address}/v2/_catalog`);
  expect(await answer.json()).toEqual({ repositories: [] });
  await registry.close();
  await registry.close();
  expect(existsSync(registry.directory)).toBe(false);
  await expect(fetch(`http://${registry.address}/v2/`)).rejects.toThrow("fetch failed");
});

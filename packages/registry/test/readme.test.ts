import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { nodeFlags } from "@estargz/testing";
import { expect, test } from "vitest";
import { openImageStore } from "../src/index.ts";
import { fakeRegistry, later, pattern } from "./harness.ts";

const run = promisify(execFile);
const folder = fileURLToPath(new URL("..", import.meta.url));

/** Runs a block of the README in this package, with other places than the README's. */
async function runBlock(code: string, name: string): Promise<string> {
  const file = join(folder, `.readme-${process.pid}-${name}.ts`);
  await writeFile(file, code);
  later(() => rm(file, { force: true }));
  const { stdout } = await run(process.execPath, [...nodeFlags, "--conditions=@estargz/source", file], { cwd: folder });
  return stdout;
}

test("the README's usage runs", async () => {
  const registry = await fakeRegistry({ profile: "docker-hub" });
  const { layers } = registry.content.putImage("library/node", "24", { layers: [1, 2].map((seed) => ({ bytes: pattern(5000, seed) })) });
  const readme = await readFile(join(folder, "README.md"), "utf8");
  const target = await mkdtemp(join(tmpdir(), "estargz-readme-"));
  later(() => rm(target, { recursive: true, force: true }));
  const blocks = [...readme.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code = ""]) =>
    code.replaceAll("docker.io/library/node", `${registry.address}/library/node`).replaceAll("oci:/tmp/node", `oci:${target}`),
  );
  expect(blocks).toHaveLength(2);
  const output = await runBlock(blocks[0] ?? "", "read");
  expect(output.trim().split("\n")).toEqual(layers.map(({ digest }) => `${digest} 5000 1024`));
  await runBlock(blocks[1] ?? "", "copy");
  const copied = await openImageStore(`oci:${target}:24`).resolve();
  expect(copied.manifest.layers.map(({ digest }) => digest)).toEqual(layers.map(({ digest }) => digest));
});

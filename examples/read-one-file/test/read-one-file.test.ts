import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { directory, file, writeLayer } from "@estargz/format";
import { type FakeRegistry, nodeFlags, startFakeRegistry } from "@estargz/testing";
import { afterEach, expect, test } from "vitest";

const run = promisify(execFile);
const main = fileURLToPath(new URL("../src/main.ts", import.meta.url));
let registries: FakeRegistry[] = [];
afterEach(async () => {
  for (const registry of registries) await registry.close();
  registries = [];
});

async function layer(entries: Parameters<typeof writeLayer>[0]) {
  const output = writeLayer(entries);
  const pieces: Uint8Array[] = [];
  for await (const piece of output.bytes) pieces.push(piece);
  const { annotations } = await output.result;
  return { bytes: Buffer.concat(pieces), annotations };
}

const cat = (reference: string, path: string) =>
  run(process.execPath, [...nodeFlags, "--conditions=@estargz/source", main, reference, path], { maxBuffer: 1e8 });

test("prints the topmost layer's file and transfers little else", async () => {
  const registry = await startFakeRegistry({ profile: "harbor" });
  registries.push(registry);
  const big = randomBytes(3_000_000);
  const layers = [
    await layer([directory("etc"), file("etc/name", "below\n"), file("etc/big", big), file("etc/gone", "gone\n")]),
    await layer([directory("etc"), file("etc/name", "above\n"), file("etc/.wh.gone", "")]),
  ];
  const blobBytes = layers.reduce((sum, { bytes }) => sum + bytes.length, 0);
  registry.content.putImage("team/app", "v1", { layers });
  const reference = `${registry.address}/team/app:v1`;
  expect((await cat(reference, "/etc/name")).stdout).toBe("above\n");
  const sent = registry.requests.reduce((sum, { bytesSent }) => sum + bytesSent, 0);
  expect(sent).toBeLessThan(blobBytes / 10);
  await expect(cat(reference, "etc/gone")).rejects.toMatchObject({ code: 1, stdout: "" });
  await expect(cat(reference, "missing")).rejects.toMatchObject({ code: 1 });
  await expect(cat(`${registry.address}/team/app:v2`, "etc/name")).rejects.toMatchObject({ stderr: expect.stringContaining("NOT_FOUND") });
});

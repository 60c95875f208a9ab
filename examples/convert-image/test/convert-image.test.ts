import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { directory, file, writeTar } from "@estargz/format";
import { digestOf, hostPlatform, OCI_CONFIG, OCI_MANIFEST, openOciLayout } from "@estargz/registry";
import { nodeFlags } from "@estargz/testing";
import { afterAll, beforeAll, expect, test } from "vitest";

const main = fileURLToPath(new URL("../src/main.ts", import.meta.url));
const run = promisify(execFile);
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "estargz-example-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

test("the example converts an image from one layout to another", async () => {
  const store = openOciLayout(join(folder, "plain"), { tag: "1" });
  const pieces: Uint8Array[] = [];
  for await (const piece of writeTar([directory("etc"), file("etc/hosts", "127.0.0.1 localhost\n")])) pieces.push(piece);
  const tar = Buffer.concat(pieces);
  const layer = { mediaType: "application/vnd.oci.image.layer.v1.tar", digest: digestOf(tar), size: tar.length };
  await store.pushBlob(layer, tar);
  const bytes = Buffer.from(JSON.stringify({ ...hostPlatform(), rootfs: { type: "layers", diff_ids: [digestOf(tar)] } }));
  const config = { mediaType: OCI_CONFIG, digest: digestOf(bytes), size: bytes.length };
  await store.pushBlob(config, bytes);
  const manifest = { schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers: [layer] };
  await store.pushManifest(Buffer.from(JSON.stringify(manifest)), { mediaType: OCI_MANIFEST });

  const args = [main, `oci:${join(folder, "plain")}:1`, `oci:${join(folder, "lazy")}:1`];
  const { stdout } = await run(process.execPath, [...nodeFlags, "--conditions=@estargz/source", ...args]);
  const converted = await openOciLayout(join(folder, "lazy"), { tag: "1" }).fetchManifest();
  expect(stdout).toContain(`converted ${layer.digest}`);
  expect(stdout.trim().split("\n").at(-1)).toBe(converted.descriptor.digest);
});

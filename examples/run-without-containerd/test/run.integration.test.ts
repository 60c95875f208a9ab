import { execFile } from "node:child_process";
import { readdir, readFile, realpath } from "node:fs/promises";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { convertImage } from "@estargz/convert";
import { directory, file, type LayerInput, writeTar } from "@estargz/format";
import { createRegistryClient, digestOf, hostPlatform, OCI_CONFIG, OCI_MANIFEST } from "@estargz/registry";
import { type FakeRegistry, nodeFlags, startFakeRegistry } from "@estargz/testing";
import { afterAll, beforeAll, expect, test } from "vitest";

const main = fileURLToPath(new URL("../src/main.ts", import.meta.url));
const run = promisify(execFile);
let registry: FakeRegistry;

/** A shell of this machine, with what it links to. */
async function shell(): Promise<LayerInput[]> {
  const { stdout } = await run("ldd", ["/bin/sh"]);
  const paths = ["/bin/sh", ...[...stdout.matchAll(/(\/\S+) \(0x/g)].map((match) => match[1] ?? "")];
  const folders = new Set<string>();
  const inputs: LayerInput[] = [];
  for (const path of paths) {
    const parents: string[] = [];
    for (let folder = dirname(path); folder !== "/"; folder = dirname(folder)) parents.unshift(folder.slice(1));
    for (const folder of parents) if (!folders.has(folder)) inputs.push(directory(folder));
    for (const folder of parents) folders.add(folder);
    inputs.push(file(path.slice(1), await readFile(await realpath(path)), { mode: 0o755 }));
  }
  return [...inputs, file("message", "hello from a lazy layer\n")];
}

beforeAll(async () => {
  registry = await startFakeRegistry();
  await using client = createRegistryClient({ proxy: "none" });
  const store = client.repository(`${registry.address}/example/plain:1`);
  const pieces: Uint8Array[] = [];
  for await (const piece of writeTar(await shell())) pieces.push(piece);
  const tar = Buffer.concat(pieces);
  const layer = { mediaType: "application/vnd.oci.image.layer.v1.tar", digest: digestOf(tar), size: tar.length };
  await store.pushBlob(layer, tar);
  const bytes = Buffer.from(JSON.stringify({ ...hostPlatform(), rootfs: { type: "layers", diff_ids: [digestOf(tar)] } }));
  const config = { mediaType: OCI_CONFIG, digest: digestOf(bytes), size: bytes.length };
  await store.pushBlob(config, bytes);
  const manifest = { schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers: [layer] };
  await store.pushManifest(Buffer.from(JSON.stringify(manifest)), { mediaType: OCI_MANIFEST });
  await convertImage(store, client.repository(`${registry.address}/example/lazy:1`));
});

afterAll(() => registry?.close());

test("the example runs a program of a remote image, and leaves nothing behind", async () => {
  const before = await readdir("/tmp");
  const script = "read -r line < /message; echo $line; echo written > /new; exit 3";
  const args = [main, `${registry.address}/example/lazy:1`, "/bin/sh", "-c", script];
  const ended = await run(process.execPath, [...nodeFlags, "--conditions=@estargz/source", ...args]).catch((error: unknown) => error);
  expect(ended).toMatchObject({ code: 3, stdout: "hello from a lazy layer\n" });
  const after = (await readdir("/tmp")).filter((name) => name.startsWith("estargz-run-") && !before.includes(name));
  expect(after).toEqual([]);
});

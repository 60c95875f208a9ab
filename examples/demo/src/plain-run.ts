// Pulls an image in full, unpacks it and runs it: what a runtime without containerd and without lazy layers does.
// plain-run.ts REFERENCE FOLDER
import { join } from "node:path";
import { parseImageConfig, runContainer } from "@estargz/cli";
import { copyImage } from "@estargz/convert";
import { createRegistryClient, openImageStore } from "@estargz/registry";
import { unpackLayer } from "./unpack-layer.ts";

const [reference = "", folder = ""] = process.argv.slice(2);
const controller = new AbortController();
for (const name of ["SIGINT", "SIGTERM"] as const) process.on(name, () => controller.abort(new Error(`stopped by ${name}`)));
const { signal } = controller;

await using client = createRegistryClient({ proxy: "none" });
const layout = join(folder, "image");
const store = openImageStore(`oci:${layout}:latest`, { client });
await copyImage(client.repository(reference), store, { signal });
const { manifest } = await store.resolve({ signal });
const root = join(folder, "rootfs");
for (const { digest } of manifest.layers) await unpackLayer(join(layout, "blobs", ...digest.split(":")), root, signal);
const config = parseImageConfig(await store.fetchConfig(manifest, { signal }));
process.exitCode = await runContainer([root], config, folder, { signal, terminal: false });

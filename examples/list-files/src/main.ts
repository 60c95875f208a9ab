// Lists the files of an image, layer by layer: node src/main.ts REFERENCE
import { stderr, stdout } from "node:process";
import { openLayer } from "@estargz/format";
import { asLayerSource, createRegistryClient, dockerConfigKeychain, openImageStore } from "@estargz/registry";

const [reference] = process.argv.slice(2);
if (reference === undefined) {
  stderr.write("usage: main.ts REFERENCE (registry/repository:tag, oci:DIRECTORY:TAG, oci-archive:FILE, https://host/folder)\n");
  process.exit(2);
}

await using client = createRegistryClient({ keychain: dockerConfigKeychain() });
const store = openImageStore(reference, { client });
const source = asLayerSource(client);
const { manifest } = await store.resolve();
// All layers are opened at once: a round trip together.
const layers = await Promise.all(
  manifest.layers.map((descriptor) =>
    openLayer(source.open({ reference: store.reference, descriptor }), { annotations: descriptor.annotations, allowUnverified: true }),
  ),
);
for (const [index, layer] of layers.entries()) {
  const { digest } = manifest.layers[index] ?? {};
  stdout.write(`${digest} ${layer.format}${layer.verified ? "" : " (not verified)"}\n`);
  for (const { type, size, path } of layer.entries.slice(1)) stdout.write(`${type.padEnd(8)}${String(size).padStart(12)}  ${path}\n`);
}

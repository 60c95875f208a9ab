// Prints one file of an image: node src/main.ts REFERENCE PATH
import { stderr, stdout } from "node:process";
import { openLayer } from "@estargz/format";
import { type Descriptor, isEstargzError } from "@estargz/interface";
import { createRegistryClient, dockerConfigKeychain } from "@estargz/registry";

const [reference, path] = process.argv.slice(2);
if (reference === undefined || path === undefined) {
  stderr.write("usage: main.ts REFERENCE PATH\n");
  process.exit(2);
}

const client = createRegistryClient({ keychain: dockerConfigKeychain() });

/** The file in one layer: its stream, `undefined` if the layer lacks it, "hidden" if the layer deletes it from those below. */
async function find(descriptor: Descriptor, name: string): Promise<AsyncIterable<Uint8Array> | "hidden" | undefined> {
  const blob = client.openBlob({ reference: reference as string, descriptor });
  // A layer without a TOC digest in its descriptor cannot be verified in parts: openLayer says UNVERIFIED.
  const layer = await openLayer(blob, { annotations: descriptor.annotations });
  const entry = layer.lookup(name);
  if (entry?.type === "reg") return layer.streamFile(entry);
  const slash = name.lastIndexOf("/") + 1;
  return layer.lookup(`${name.slice(0, slash)}.wh.${name.slice(slash)}`) === undefined ? undefined : "hidden";
}

try {
  const { manifest } = await client.resolve(reference);
  process.exitCode = 1;
  // The last layer that has the file wins.
  for (const descriptor of manifest.layers.toReversed()) {
    const found = await find(descriptor, path.replace(/^\/+/, ""));
    if (found === "hidden") break;
    if (found === undefined) continue;
    for await (const piece of found) stdout.write(piece);
    process.exitCode = 0;
    break;
  }
} catch (error) {
  stderr.write(`${isEstargzError(error) ? `${error.code}: ` : ""}${String((error as Error).message)}\n`);
  process.exitCode = 1;
} finally {
  await client.close();
}

import { createHash } from "node:crypto";
import { file, writeLayer } from "@estargz/format";
import type { Descriptor } from "@estargz/interface";

function noise(seed: string, length: number): Uint8Array {
  const parts: Buffer[] = [];
  for (let at = 0; at < length; at += 32) parts.push(createHash("sha256").update(`${seed} ${at}`).digest());
  return Buffer.concat(parts).subarray(0, length);
}

/** Makes layers, each of some files, hands them to `push`, and gives their descriptors. */
export async function pushLayers(
  push: (descriptor: Descriptor, blob: Buffer) => Promise<void>,
  count: number,
  filesEach: number,
  seed: number,
): Promise<Descriptor[]> {
  const layers: Descriptor[] = [];
  for (let layer = 0; layer < count; layer += 1) {
    const entries = Array.from({ length: filesEach }, (_, index) =>
      file(`layer-${layer}/file-${index}`, noise(`${seed} ${layer} ${index}`, 20_000)),
    );
    const output = writeLayer(entries);
    const parts: Uint8Array[] = [];
    for await (const part of output.bytes) parts.push(part);
    const { digest, size, mediaType, annotations } = await output.result;
    const descriptor = { digest, size, mediaType, annotations };
    await push(descriptor, Buffer.concat(parts));
    layers.push(descriptor);
  }
  return layers;
}

import { createWriteStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { convertTar, type WriteLayerOptions, type WrittenLayer } from "@estargz/format";

/** Writes a layer into a file, streaming; gives what is known of it. */
export async function writeLayerFile(tar: AsyncIterable<Uint8Array>, path: string, options: WriteLayerOptions): Promise<WrittenLayer> {
  const output = convertTar(tar, options);
  await pipeline(output.bytes, createWriteStream(path, { mode: 0o600 }), { signal: options.signal });
  return output.result;
}

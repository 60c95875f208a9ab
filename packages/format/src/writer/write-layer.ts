import { EstargzError } from "@estargz/interface";
import { encodeTarHeader, paddingOf } from "../tar/encode-tar.ts";
import { convertTar } from "./convert-tar.ts";
import type { LayerInput } from "./entries.ts";
import type { LayerOutput } from "./layer-output.ts";
import type { WriteLayerOptions } from "./write-options.ts";

/**
 * Writes a layer of entries, in the order given. Deterministic: the same entries and options give the same bytes with the same version
 * of the runtime's deflate, however many threads take part.
 *
 * @throws as {@link convertTar} does.
 *
 * @example
 * ```ts
 * const layer = writeLayer([directory("app"), file("app/main.js", source, { mode: 0o755 })]);
 * for await (const bytes of layer.bytes) await upload(bytes);
 * const { digest, size, diffId, annotations } = await layer.result;
 * ```
 */
export function writeLayer(entries: Iterable<LayerInput> | AsyncIterable<LayerInput>, options: WriteLayerOptions = {}): LayerOutput {
  return convertTar(writeTar(entries), options);
}

/** Writes a plain tar of entries. */
export async function* writeTar(entries: Iterable<LayerInput> | AsyncIterable<LayerInput>): AsyncIterable<Uint8Array> {
  for await (const { header, content } of entries) {
    yield encodeTarHeader(header);
    if (header.size === 0) continue;
    yield* counted(content(), header);
    const padding = paddingOf(header.size);
    if (padding > 0) yield new Uint8Array(padding);
  }
  yield new Uint8Array(1024);
}

/** Holds a content to its announced size: another would shift everything behind it. */
async function* counted(content: AsyncIterable<Uint8Array>, header: LayerInput["header"]): AsyncIterable<Uint8Array> {
  let size = 0;
  for await (const bytes of content) {
    size += bytes.length;
    if (size > header.size) break;
    yield bytes;
  }
  if (size === header.size) return;
  throw new EstargzError(
    "INVALID_ARGUMENT",
    `the content of ${JSON.stringify(header.name)} is not of the ${header.size} bytes that were announced`,
  );
}

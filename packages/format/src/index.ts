/**
 * Reads, verifies and writes layers that can be read in parts: eStargz, legacy stargz, external TOC, zstd:chunked.
 *
 * @packageDocumentation
 */
export { fromBlob } from "./adapters/blob.ts";
export type { AsyncBuffer, PmtilesSource, ZipReader } from "./adapters/foreign-readers.ts";
export {
  asAsyncBuffer,
  asPmtilesSource,
  asZipReader,
  fromAsyncBuffer,
  fromPmtilesSource,
  fromZipReader,
} from "./adapters/foreign-readers.ts";
export type { ReadRange } from "./adapters/memory.ts";
export { fromBytes, readerFromRead } from "./adapters/memory.ts";
export type { FromUrlOptions } from "./adapters/url.ts";
export { fromUrl } from "./adapters/url.ts";
export { LAYER_DIGEST_ANNOTATION, TOC_DIGEST_ANNOTATION, UNCOMPRESSED_SIZE_ANNOTATION, ZSTD_ANNOTATION_PREFIXES } from "./annotations.ts";
export { decodeFirstUse, encodeFirstUse, FIRST_USE_ANNOTATION } from "./first-use.ts";
export type { Footer } from "./footer.ts";
export { MAX_FOOTER_BYTES, parseFooter } from "./footer.ts";
export type { LayerLimits } from "./limits.ts";
export { DEFAULT_LIMITS } from "./limits.ts";
export type { OpenLayerFromTocOptions, OpenLayerOptions } from "./open-layer.ts";
export { openLayer, openLayerFromToc } from "./open-layer.ts";
export type { ChunkEncoding, Codecs } from "./reader/decode-chunk.ts";
export { decodeChunk, decodeMember, defaultCodecs } from "./reader/decode-chunk.ts";
export { NO_PREFETCH_LANDMARK, PREFETCH_LANDMARK } from "./reader/layer.ts";
export { portableGzip, portableZstd } from "./runtime/portable-codecs.ts";
export type { TarItem } from "./tar/read-tar.ts";
export { readTar } from "./tar/read-tar.ts";
export type { TarHeader, TarKind } from "./tar/tar-entry.ts";
export { convertTar } from "./writer/convert-tar.ts";
export type { EntryOptions, FileContent, LayerInput } from "./writer/entries.ts";
export { device, directory, fifo, file, hardLink, symlink } from "./writer/entries.ts";
export type { LayerOutput, WrittenLayer } from "./writer/layer-output.ts";
export type { TarSource } from "./writer/tar-source.ts";
export { writeLayer, writeTar } from "./writer/write-layer.ts";
export type { ChunkedFile, ChunkingFunction, WriteLayerOptions } from "./writer/write-options.ts";

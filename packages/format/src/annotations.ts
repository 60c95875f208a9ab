/** Digest of the TOC, on the layer's descriptor. */
export const TOC_DIGEST_ANNOTATION = "containerd.io/snapshot/stargz/toc.digest";
/** Bytes of the whole uncompressed stream, on the layer's descriptor. */
export const UNCOMPRESSED_SIZE_ANNOTATION = "io.containers.estargz.uncompressed-size";
/** Digest of the layer that a layer of a TOC image belongs to. */
export const LAYER_DIGEST_ANNOTATION = "containerd.io/snapshot/stargz/layer.digest";
/** Prefixes of zstd:chunked annotations: the current one first, then the one the reference knows. */
export const ZSTD_ANNOTATION_PREFIXES: readonly string[] = ["io.github.containers.zstd-chunked.", "io.containers.zstd-chunked."];

/** Finds a zstd:chunked annotation under either prefix. */
export function zstdAnnotation(annotations: Readonly<Record<string, string>> | undefined, key: string): string | undefined {
  for (const prefix of ZSTD_ANNOTATION_PREFIXES) {
    const value = annotations?.[prefix + key];
    if (value !== undefined) return value;
  }
  return undefined;
}

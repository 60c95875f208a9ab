import type { LayerIndex } from "../layer-index.ts";

const BLOCK_BYTES = 4096;

/** Bytes of disk that a chunk takes: whole blocks. */
export function diskBytes(index: LayerIndex, chunk: number): number {
  return Math.ceil(index.chunkLength(chunk) / BLOCK_BYTES) * BLOCK_BYTES;
}

import type { ChunkColumns } from "../toc/chunk-columns.ts";

/**
 * Where the member of each chunk ends at most: at the next member that a chunk starts in, or the payload's end. Chunks of entries
 * that a later entry of the same name replaced count, too.
 */
export function memberEnds(chunks: ChunkColumns, payloadEnd: number): Float64Array {
  const { blobOffsets, zeros } = chunks;
  const ends = new Float64Array(chunks.count);
  const order = stored(chunks);
  let end = payloadEnd;
  let start = -1;
  for (let i = order.length - 1; i >= 0; i -= 1) {
    const chunk = order[i] as number;
    const offset = blobOffsets[chunk] as number;
    if (offset !== start) {
      if (start >= 0) end = start;
      start = offset;
    }
    ends[chunk] = end;
  }
  for (const chunk of zeros) ends[chunk] = blobOffsets[chunk] as number;
  return ends;
}

/** Numbers of the chunks that have bytes in the blob, by offset. */
function stored(chunks: ChunkColumns): Uint32Array {
  const { blobOffsets, zeros } = chunks;
  const order = new Uint32Array(chunks.count - zeros.size);
  let count = 0;
  let sorted = true;
  let last = 0;
  for (let chunk = 0; chunk < chunks.count; chunk += 1) {
    if (zeros.has(chunk)) continue;
    order[count++] = chunk;
    const offset = blobOffsets[chunk] as number;
    sorted &&= offset >= last;
    last = offset;
  }
  if (!sorted) order.sort((a, b) => (blobOffsets[a] as number) - (blobOffsets[b] as number));
  return order;
}

/** Most bytes that compressed data of this many bytes takes, with room for a writer that flushes often. */
export function compressedBound(bytes: number): number {
  return bytes + (bytes >>> 2) + (1 << 16);
}

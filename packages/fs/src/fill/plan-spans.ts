import type { LayerIndex } from "../layer-index.ts";

/** A range of a blob to fetch, with what it brings. */
export interface SpanPlan {
  readonly offset: number;
  readonly length: number;
  /** Positions in blob order of the first and the last chunk in it. */
  readonly first: number;
  readonly last: number;
  /** Chunks to take from it, in blob order. */
  readonly chunks: readonly number[];
}

/** Chunks of a layer in the order of their places in the blob. Zeros and virtual chunks, which have none, are left out. */
export interface BlobOrder {
  /** Chunk at each position. */
  readonly chunks: Uint32Array;
  /** Position of each chunk; 0xffffffff for those left out. */
  readonly positions: Uint32Array;
}

/** Sorts the chunks of a layer by their places in the blob. */
export function blobOrder(index: LayerIndex): BlobOrder {
  let chunks = new Uint32Array(index.chunkCount);
  let count = 0;
  let sorted = true;
  const before = (a: number, b: number): number =>
    index.chunkBlobOffset(a) - index.chunkBlobOffset(b) || index.chunkInnerOffset(a) - index.chunkInnerOffset(b);
  for (let chunk = 0; chunk < index.chunkCount; chunk++) {
    if (index.chunkIsVirtual(chunk) || index.chunkIsZeros(chunk)) continue;
    if (count > 0 && before(chunks[count - 1] ?? 0, chunk) > 0) sorted = false;
    chunks[count++] = chunk;
  }
  chunks = chunks.slice(0, count);
  if (!sorted) chunks.sort(before);
  const positions = new Uint32Array(index.chunkCount).fill(0xffff_ffff);
  chunks.forEach((chunk, position) => {
    positions[chunk] = position;
  });
  return { chunks, positions };
}

/**
 * Plans the fewest requests for chunks. Neighbours at most `maxGapBytes` apart come in one request: reading across a small
 * gap costs less than another round trip; what lies in the gap and is wanted by nobody yet comes along.
 *
 * @param positions - In blob order, ascending, without repetition.
 * @param isWanted - Says of a chunk in a gap whether it is worth keeping (not local, not on its way).
 */
export function planSpans(
  index: LayerIndex,
  order: BlobOrder,
  positions: readonly number[],
  options: { readonly maxGapBytes: number; readonly maxRequestBytes: number; readonly isWanted: (chunk: number) => boolean },
): SpanPlan[] {
  const plans: SpanPlan[] = [];
  let open: { offset: number; end: number; first: number; last: number; chunks: number[] } | undefined;
  const close = (): void => {
    if (open === undefined) return;
    plans.push({ offset: open.offset, length: open.end - open.offset, first: open.first, last: open.last, chunks: open.chunks });
    open = undefined;
  };
  for (const position of positions) {
    const chunk = order.chunks[position] ?? 0;
    const offset = index.chunkBlobOffset(chunk);
    const end = offset + index.chunkSpanLength(chunk);
    if (
      open !== undefined &&
      (offset - open.end > options.maxGapBytes || end - open.offset > options.maxRequestBytes) &&
      offset >= open.end
    )
      close();
    if (open === undefined) {
      open = { offset, end, first: position, last: position, chunks: [chunk] };
      continue;
    }
    for (let between = open.last + 1; between < position; between++) {
      const other = order.chunks[between] ?? 0;
      if (options.isWanted(other)) open.chunks.push(other);
    }
    open.chunks.push(chunk);
    open.end = Math.max(open.end, end);
    open.last = position;
  }
  close();
  return plans;
}

/** Bytes of a request that belong to none of its chunks. */
export function excessBytes(index: LayerIndex, plan: SpanPlan): number {
  let bytes = plan.length;
  let before = -1;
  for (const chunk of plan.chunks) {
    const offset = index.chunkBlobOffset(chunk);
    if (offset !== before) bytes -= index.chunkSpanLength(chunk);
    before = offset;
  }
  return Math.max(0, bytes);
}

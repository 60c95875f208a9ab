import type { LayerIndex } from "../layer-index.ts";

/** Words of a transfer's shared state. */
export const TransferWord = { received: 0, claimed: 1, priority: 2 } as const;

/** A contiguous range of a blob on its way into the store, as threads share it. Can be posted. */
export interface SharedTransfer {
  readonly id: number;
  readonly layer: number;
  /** Where `bytes` starts in the blob. */
  readonly blobOffset: number;
  readonly bytes: SharedArrayBuffer;
  /** {@link TransferWord}: bytes received, members claimed by decoders, priority. */
  readonly state: SharedArrayBuffer;
  /** Chunks in the order of their members; one member may hold several. */
  readonly chunks: Uint32Array<SharedArrayBuffer>;
  /** Index in `chunks` of each member's first chunk; one more at the end. */
  readonly members: Uint32Array<SharedArrayBuffer>;
  /** Byte in `bytes` where each member ends at the latest. */
  readonly ends: Uint32Array<SharedArrayBuffer>;
  /** Gives the bytes back instead of writing them. */
  readonly keep: boolean;
}

function sharedWords(values: readonly number[]): Uint32Array<SharedArrayBuffer> {
  const words = new Uint32Array(new SharedArrayBuffer(values.length * 4));
  words.set(values);
  return words;
}

/**
 * Describes a transfer of chunks that are sorted by their place in the blob.
 *
 * @param chunks - At least one; every member's span lies inside `blobOffset` to `blobOffset + length`.
 */
export function describeTransfer(options: {
  readonly id: number;
  readonly layer: number;
  readonly index: LayerIndex;
  readonly blobOffset: number;
  readonly length: number;
  readonly chunks: readonly number[];
  readonly priority: number;
  readonly keep: boolean;
  readonly bytes?: SharedArrayBuffer | undefined;
}): SharedTransfer {
  const { index, chunks, blobOffset, length } = options;
  const members: number[] = [];
  const ends: number[] = [];
  let before = -1;
  chunks.forEach((chunk, at) => {
    const offset = index.chunkBlobOffset(chunk);
    if (offset === before) return;
    before = offset;
    members.push(at);
    ends.push(Math.min(length, offset + index.chunkSpanLength(chunk) - blobOffset));
  });
  members.push(chunks.length);
  const state = new SharedArrayBuffer(16);
  new Int32Array(state)[TransferWord.priority] = options.priority;
  return {
    id: options.id,
    layer: options.layer,
    blobOffset,
    bytes: options.bytes ?? new SharedArrayBuffer(length),
    state,
    chunks: sharedWords(chunks),
    members: sharedWords(members),
    ends: sharedWords(ends),
    keep: options.keep,
  };
}

import type { LayerStore } from "../store/layer-store.ts";
import { type BlobOrder, blobOrder } from "./plan-spans.ts";
import type { TransferRun } from "./transfer-run.ts";

/** Bits of a chunk's state in this process. */
export const ChunkState = { queued: 1, ahead: 2, checking: 4, copying: 8, counted: 16, bad: 32, noCopy: 64, keep: 128 } as const;

/** What the fill of a layer knows of its chunks: their order in the blob, their states, the requests that bring them. */
export class LayerChunks {
  readonly store: LayerStore;
  readonly inFlight: Map<number, TransferRun> = new Map();
  readonly #states: Uint8Array;
  #order: BlobOrder | undefined;

  constructor(store: LayerStore) {
    this.store = store;
    this.#states = new Uint8Array(store.index.chunkCount);
    for (let chunk = 0; chunk < this.count; chunk++)
      if (store.isLive(chunk) || store.isSuspect(chunk)) this.#states[chunk] = ChunkState.counted;
  }

  /** Chunks by their places in the blob: made when something is to be fetched for the first time. */
  get order(): BlobOrder {
    this.#order ??= blobOrder(this.store.index);
    return this.#order;
  }

  get count(): number {
    return this.store.index.chunkCount;
  }

  /** Whether a chunk has any of these states. */
  has(chunk: number, bits: number): boolean {
    return ((this.#states[chunk] ?? 0) & bits) !== 0;
  }

  change(chunk: number, set: number, clear: number): void {
    this.#states[chunk] = ((this.#states[chunk] ?? 0) | set) & ~clear;
  }

  /** Takes states off all chunks. */
  clearAll(bits: number): void {
    for (let chunk = 0; chunk < this.count; chunk++) this.change(chunk, 0, bits);
  }

  /** Whether a chunk is neither local nor on its way nor known to be bad. */
  isOpen(chunk: number): boolean {
    return (
      !this.store.isLive(chunk) &&
      !this.store.isSuspect(chunk) &&
      !this.inFlight.has(chunk) &&
      !this.has(chunk, ~ChunkState.counted & ~ChunkState.noCopy)
    );
  }

  chunkAt(position: number): number {
    return this.order.chunks[position] ?? 0;
  }

  positionOf(chunk: number): number {
    return this.order.positions[chunk] ?? 0;
  }

  /** Where the span of the chunk at a position ends in the blob. */
  spanEnd(position: number): number {
    const chunk = this.chunkAt(position);
    return this.store.index.chunkBlobOffset(chunk) + this.store.index.chunkSpanLength(chunk);
  }
}

import { ChunkState, type LayerChunks } from "./layer-chunks.ts";
import type { FillSettings } from "./options.ts";
import { planSpans, type SpanPlan } from "./plan-spans.ts";

const MAX_SUSPECTS = 256;
const MAX_RECORDED_BYTES = 4 * 1024 * 1024;
const NO_POSITION = 0xffff_ffff;

/** What is done with chunks on the way that need no request. */
export interface SweepHost {
  /** Has chunks of an earlier process hashed. */
  check(chunks: readonly number[]): void;
  /** Has a chunk copied from another layer; false if none has it. */
  copy(chunk: number): boolean;
}

/** Goes through a layer for what nobody waits for: the prefetch, then the rest. */
export class Sweep {
  readonly #chunks: LayerChunks;
  readonly #settings: FillSettings;
  readonly #host: SweepHost;
  #cursor = 0;
  #recordedAt = 0;

  constructor(chunks: LayerChunks, settings: FillSettings, host: SweepHost) {
    this.#chunks = chunks;
    this.#settings = settings;
    this.#host = host;
  }

  /** Begins again. */
  restart(): void {
    this.#cursor = 0;
  }

  /** Next requests of the prefetch: what lies before `prefetchEnd`, then the chunks of a recorded order. */
  nextPrefetch(prefetchEnd: number, recorded: readonly number[]): SpanPlan[] {
    const next = this.#next(prefetchEnd);
    if (next !== undefined) return [next];
    const chunks = this.#chunks;
    const positions = new Set<number>();
    let bytes = 0;
    for (; this.#recordedAt < recorded.length && bytes < MAX_RECORDED_BYTES; this.#recordedAt++) {
      const chunk = recorded[this.#recordedAt] ?? 0;
      if (chunk >= chunks.count || !chunks.isOpen(chunk) || chunks.positionOf(chunk) === NO_POSITION) continue;
      positions.add(chunks.positionOf(chunk));
      bytes += chunks.store.index.chunkSpanLength(chunk);
    }
    const sorted = [...positions].sort((a, b) => a - b);
    return this.#plan(sorted, this.#settings.maxGapBytes, this.#settings.backgroundRequestBytes);
  }

  /** Next request of the background fill, if any. */
  nextBackground(): SpanPlan | undefined {
    return this.#next(Number.POSITIVE_INFINITY);
  }

  /** Takes the next stretch of missing chunks before `end`; has suspect ones hashed and known ones copied on the way. */
  #next(end: number): SpanPlan | undefined {
    if (end <= 0) return undefined;
    const chunks = this.#chunks;
    const { store, order } = chunks;
    const suspects: number[] = [];
    const positions: number[] = [];
    let start = -1;
    for (; this.#cursor < order.chunks.length; this.#cursor++) {
      const chunk = chunks.chunkAt(this.#cursor);
      const offset = store.index.chunkBlobOffset(chunk);
      if (offset >= end) break;
      if (store.isSuspect(chunk) && !chunks.has(chunk, ChunkState.checking)) {
        chunks.change(chunk, ChunkState.checking, 0);
        suspects.push(chunk);
        if (suspects.length >= MAX_SUSPECTS) break;
        continue;
      }
      if (!chunks.isOpen(chunk)) continue;
      if (start >= 0 && !this.#fits(start, offset, positions.at(-1) ?? 0)) break;
      if (this.#host.copy(chunk)) continue;
      if (start < 0) start = offset;
      positions.push(this.#cursor);
    }
    if (suspects.length > 0) this.#host.check(suspects);
    return this.#plan(positions, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY)[0];
  }

  /** Whether the chunk at the cursor belongs into the request from `start`, whose last chunk is at position `last`. */
  #fits(start: number, offset: number, last: number): boolean {
    const { backgroundRequestBytes, maxGapBytes } = this.#settings;
    return this.#chunks.spanEnd(this.#cursor) - start <= backgroundRequestBytes && offset - this.#chunks.spanEnd(last) <= maxGapBytes;
  }

  #plan(positions: readonly number[], maxGapBytes: number, maxRequestBytes: number): SpanPlan[] {
    const { store, order } = this.#chunks;
    return planSpans(store.index, order, positions, { maxGapBytes, maxRequestBytes, isWanted: (chunk) => this.#chunks.isOpen(chunk) });
  }
}

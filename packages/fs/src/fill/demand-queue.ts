import { ChunkState, type LayerChunks } from "./layer-chunks.ts";
import type { FillSettings } from "./options.ts";
import { planSpans, type SpanPlan } from "./plan-spans.ts";
import { createReadAhead, type ReadAhead } from "./read-ahead.ts";
import type { FetchCause } from "./transfer-run.ts";

const NO_POSITION = 0xffff_ffff;
const SMALL_FILE_BYTES = 256 * 1024;
const MAX_REQUEST_BYTES = 16 * 1024 * 1024;

/** A request that reads call for. */
export interface DemandPlan {
  readonly plan: SpanPlan;
  readonly cause: FetchCause;
  /** Its bytes are given and not written. */
  readonly keep: boolean;
}

/** Chunks of a layer that somebody waits for, and those likely to be wanted next, until requests are made for them. */
export class DemandQueue {
  readonly #chunks: LayerChunks;
  readonly #settings: FillSettings;
  readonly #readAhead: ReadAhead;
  /** Positions in blob order. */
  readonly #queue = new Set<number>();

  constructor(chunks: LayerChunks, settings: FillSettings) {
    this.#chunks = chunks;
    this.#settings = settings;
    this.#readAhead = createReadAhead({ maxWindowBytes: settings.readAheadBytes });
  }

  get isEmpty(): boolean {
    return this.#queue.size === 0;
  }

  /** Queues a chunk that somebody waits for. */
  add(chunk: number): void {
    this.#queue.add(this.#chunks.positionOf(chunk));
    this.#chunks.change(chunk, ChunkState.queued, ChunkState.ahead | ChunkState.bad);
  }

  delete(chunk: number): void {
    this.#queue.delete(this.#chunks.positionOf(chunk));
  }

  clear(): void {
    this.#queue.clear();
  }

  /** Queues what is likely to be read after these chunks. */
  lookAhead(wanted: readonly number[], continues: boolean): void {
    const { order, store } = this.#chunks;
    const positions = wanted.map((chunk) => order.positions[chunk] ?? NO_POSITION).filter((position) => position !== NO_POSITION);
    if (positions.length === 0) return;
    const last = Math.max(...positions);
    const { index } = store;
    let wantedBytes = 0;
    for (const position of positions) wantedBytes += index.chunkSpanLength(this.#chunks.chunkAt(position));
    let bytes = this.#readAhead.miss(Math.min(...positions), last, wantedBytes, continues);
    const inode = index.chunkInode(this.#chunks.chunkAt(last));
    const isSmall = index.size(inode) <= SMALL_FILE_BYTES && index.chunksOf(inode) <= 1;
    const isForward = bytes > 0;
    if (!isForward && isSmall) bytes = this.#settings.neighbourBytes;
    let reached = last;
    for (let position = last + 1; position < order.chunks.length && bytes > 0; position++) {
      const chunk = this.#chunks.chunkAt(position);
      bytes -= this.#chunks.spanEnd(position) - this.#chunks.spanEnd(position - 1);
      // A forward reader gets the next chunk, however large.
      if (bytes < 0 && !(isForward && position === last + 1)) break;
      reached = position;
      if (!this.#chunks.isOpen(chunk)) continue;
      this.#queue.add(position);
      this.#chunks.change(chunk, ChunkState.queued | ChunkState.ahead, 0);
    }
    this.#readAhead.fetched(last, reached);
  }

  /** Takes what is queued as requests; those that somebody waits for come first. */
  take(): DemandPlan[] {
    const chunks = this.#chunks;
    const positions = [...this.#queue].sort((a, b) => a - b);
    this.#queue.clear();
    const taken: DemandPlan[] = [];
    for (const keep of [false, true]) {
      const wanted = positions.filter((position) => chunks.has(chunks.chunkAt(position), ChunkState.keep) === keep);
      const plans = planSpans(chunks.store.index, chunks.order, wanted, {
        maxGapBytes: this.#settings.maxGapBytes,
        maxRequestBytes: MAX_REQUEST_BYTES,
        isWanted: (chunk) => chunks.isOpen(chunk),
      });
      for (const plan of plans) {
        const isWaitedFor = plan.chunks.some((chunk) => chunks.has(chunk, ChunkState.queued) && !chunks.has(chunk, ChunkState.ahead));
        taken.push({ plan, cause: isWaitedFor ? "on-demand" : "read-ahead", keep });
      }
    }
    return taken.sort((a, b) => Number(a.cause === "read-ahead") - Number(b.cause === "read-ahead"));
  }

  /** Puts a planned request back. */
  putBack(plan: SpanPlan): void {
    for (const chunk of plan.chunks) if (this.#chunks.has(chunk, ChunkState.queued)) this.#queue.add(this.#chunks.positionOf(chunk));
  }
}

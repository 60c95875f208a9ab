import { EstargzError, type ReaderAt } from "@estargz/interface";
import { assembleRange } from "../store/assemble-range.ts";
import { ChunkFiles } from "../store/chunk-files.ts";
import type { LayerStore } from "../store/layer-store.ts";
import { nodeStoreFiles } from "../store/store-files.ts";
import type { ChunkResult } from "./decoder.ts";
import type { FillHost } from "./fill-host.ts";
import type { GivenBytes } from "./given-bytes.ts";
import { type BlobOrder, blobOrder, planSpans, type SpanPlan } from "./plan-spans.ts";
import { createReadAhead, type ReadAhead } from "./read-ahead.ts";
import { createSourceRotation, type SourceRotation } from "./source-rotation.ts";
import type { FetchCause, TransferRun } from "./transfer-run.ts";
import { createWaiter, type Waiter } from "./waiter.ts";

/** Bits of a chunk's state in this process. */
const State = { queued: 1, ahead: 2, checking: 4, copying: 8, counted: 16, bad: 32, noCopy: 64, keep: 128 } as const;

const MAX_READ_ENDS = 64;
const SMALL_FILE_BYTES = 256 * 1024;

/**
 * What is fetched of one layer: which chunks are wanted, by whom, and what becomes of them. Knows no threads and no
 * requests: {@link FillScheduler} runs what is planned here.
 */
export class LayerFill {
  readonly store: LayerStore;
  readonly inFlight: Map<number, TransferRun> = new Map();
  /** Requests for reads that somebody waits for. */
  demandRequests = 0;
  /** Blob end of what is to be prefetched. */
  prefetchEnd = 0;
  /** Chunks in the order a former start used them. */
  recorded: readonly number[] = [];
  /** Raised at each attaching: the last attached layer is filled first. */
  rank = 0;
  /** Whether anybody holds the layer: else nothing is fetched in the background. */
  attached = true;
  closed = false;
  /** Chunks in the order that readers first wanted them. */
  readonly firstUse: Set<number> = new Set();
  #order: BlobOrder | undefined;
  readonly #host: FillHost;
  readonly #waiters = new Map<number, Set<Waiter>>();
  readonly #queue = new Set<number>();
  readonly #state: Uint8Array;
  readonly #readAhead: ReadAhead;
  readonly #files: ChunkFiles;
  /** Where the last missing read of each file ended. */
  readonly #readEnds = new Map<number, number>();
  readonly #failures = new Map<number, number>();
  readonly #given: GivenBytes;
  readonly #sources: SourceRotation;
  #lastError: unknown;
  #lastByteMs = 0;
  #cursor = 0;
  #recordedAt = 0;

  constructor(store: LayerStore, readers: readonly ReaderAt[], host: FillHost) {
    this.store = store;
    this.#sources = createSourceRotation(readers);
    this.#host = host;
    this.#given = host.given.forLayer();
    this.#readAhead = createReadAhead({ maxWindowBytes: host.settings.readAheadBytes });
    this.#state = new Uint8Array(store.index.chunkCount);
    this.#files = new ChunkFiles(store.init(), nodeStoreFiles);
    for (let chunk = 0; chunk < store.index.chunkCount; chunk++) {
      if (store.isLive(chunk) || store.isSuspect(chunk)) this.#state[chunk] = State.counted;
    }
  }

  /** Chunks by their places in the blob: made when something is to be fetched for the first time. */
  get order(): BlobOrder {
    this.#order ??= blobOrder(this.store.index);
    return this.#order;
  }

  /** Adds a place that the blob can be read from. */
  addReader(reader: ReaderAt): void {
    this.#sources.add(reader);
  }

  /** The place to read from now. */
  reader(): ReaderAt {
    return this.#sources.current();
  }

  /** No request before this time (performance.now()), after failures. */
  get retryAtMs(): number {
    return this.#sources.retryAtMs;
  }

  /**
   * Brings a file's range into the store. Gives the bytes themselves when they cannot be shown from there.
   *
   * @throws `UNAVAILABLE`, `DIGEST_MISMATCH`, `CLOSED`, the source's errors, or the signal's reason.
   */
  async read(inode: number, offset: number, length: number, signal: AbortSignal | undefined): Promise<Uint8Array | undefined> {
    signal?.throwIfAborted();
    const { index } = this.store;
    const end = Math.min(offset + length, index.size(inode));
    if (end <= offset) return new Uint8Array(0);
    const first = index.chunkAt(inode, offset);
    const last = index.chunkAt(inode, end - 1);
    if (first < 0 || last < 0) throw new EstargzError("OUT_OF_RANGE", `inode ${inode} has no bytes at ${offset}`);
    for (let attempt = 0; ; attempt++) {
      const missing: number[] = [];
      const given = new Map<number, Uint8Array>();
      for (let chunk = first; chunk <= last; chunk++) {
        const kept = this.#given.get(chunk);
        if (this.store.isLive(chunk)) continue;
        if (kept === undefined) missing.push(chunk);
        else given.set(chunk, kept);
      }
      const local = missing.length === 0;
      if (!local) {
        const waiter = this.#wait(missing, signal, this.#continues(inode, offset, end));
        try {
          await waiter.done;
        } finally {
          this.#leave(waiter, missing);
        }
        for (const [chunk, bytes] of waiter.given) given.set(chunk, bytes);
        if (given.size === 0) return undefined;
      }
      // Asked for although it is there: whoever asks could not read it, so it gets the bytes.
      const bytes = this.#assemble(inode, offset, end, given);
      if (bytes !== undefined) return bytes;
      if (attempt > 2) throw new EstargzError("IO_ERROR", "local data cannot be read and does not stay when fetched again");
    }
  }

  #assemble(inode: number, offset: number, end: number, given: ReadonlyMap<number, Uint8Array>): Uint8Array | undefined {
    const { result, unreadable } = assembleRange(this.#files, { inode, offset, end }, given);
    if (unreadable.length === 0) return result;
    this.#host.logger.warn({ inode, chunks: unreadable.length }, "local data of a layer is damaged or gone; it is fetched again");
    this.store.unshow(unreadable);
    for (const chunk of unreadable) this.#setState(chunk, State.keep | State.noCopy, State.counted);
    return undefined;
  }

  /** Whether a read begins where an earlier one of its file ended. */
  #continues(inode: number, offset: number, end: number): boolean {
    const before = this.#readEnds.get(inode);
    this.#readEnds.delete(inode);
    this.#readEnds.set(inode, end);
    const [oldest] = this.#readEnds.keys();
    if (this.#readEnds.size > MAX_READ_ENDS && oldest !== undefined) this.#readEnds.delete(oldest);
    return before === offset;
  }

  #wait(chunks: readonly number[], signal: AbortSignal | undefined, continues: boolean): Waiter {
    if (this.closed) throw new EstargzError("CLOSED", "the layer is no longer attached");
    const { settings } = this.#host;
    const waiter = createWaiter({
      chunks,
      signal,
      timeoutMs: settings.sourceTimeoutMs,
      isMoving: () => performance.now() - this.#lastByteMs < settings.sourceTimeoutMs && chunks.some((chunk) => this.inFlight.has(chunk)),
      lastError: () => this.#lastError,
    });
    for (const chunk of chunks) {
      const waiters = this.#waiters.get(chunk);
      if (waiters === undefined) this.#waiters.set(chunk, new Set([waiter]));
      else waiters.add(waiter);
      this.#want(chunk);
    }
    this.#host.onMiss(this, chunks.length);
    this.#lookAhead(chunks, continues);
    this.#host.pump();
    return waiter;
  }

  #leave(waiter: Waiter, chunks: readonly number[]): void {
    for (const chunk of chunks) {
      const waiters = this.#waiters.get(chunk);
      waiters?.delete(waiter);
      if (waiters?.size === 0) this.#waiters.delete(chunk);
    }
  }

  #hasState(chunk: number, bits: number): boolean {
    return ((this.#state[chunk] ?? 0) & bits) !== 0;
  }

  #setState(chunk: number, set: number, clear: number): void {
    this.#state[chunk] = ((this.#state[chunk] ?? 0) | set) & ~clear;
  }

  /** Sees to it that a chunk somebody waits for comes as soon as possible. */
  #want(chunk: number): void {
    if (this.store.isLive(chunk)) {
      this.#settle(chunk);
      return;
    }
    if (this.#hasState(chunk, State.checking | State.copying)) return;
    if (this.store.isSuspect(chunk)) {
      this.#setState(chunk, State.checking, 0);
      this.#host.check(this, [chunk], true);
      return;
    }
    const run = this.inFlight.get(chunk);
    if (run !== undefined) {
      const { index } = this.store;
      const until = index.chunkBlobOffset(chunk) + index.chunkSpanLength(chunk) - run.shared.blobOffset;
      if (this.#host.isWorthJoining(run, until)) return;
    } else {
      this.firstUse.add(chunk);
      if (this.#copy(chunk)) return;
    }
    this.#queue.add(this.order.positions[chunk] ?? 0);
    this.#setState(chunk, State.queued, State.ahead | State.bad);
  }

  #copy(chunk: number): boolean {
    if (this.#hasState(chunk, State.noCopy) || !this.#host.copy(this, chunk)) return false;
    this.#setState(chunk, State.copying, 0);
    return true;
  }

  /** Queues what is likely to be read next. */
  #lookAhead(chunks: readonly number[], continues: boolean): void {
    const positions = chunks.map((chunk) => this.order.positions[chunk] ?? 0xffff_ffff).filter((position) => position !== 0xffff_ffff);
    if (positions.length === 0) return;
    const first = Math.min(...positions);
    const last = Math.max(...positions);
    const { index } = this.store;
    let wantedBytes = 0;
    for (const position of positions) wantedBytes += index.chunkSpanLength(this.order.chunks[position] ?? 0);
    let bytes = this.#readAhead.miss(first, last, wantedBytes, continues);
    const inode = index.chunkInode(this.order.chunks[last] ?? 0);
    const isSmall = index.size(inode) <= SMALL_FILE_BYTES && index.chunksOf(inode) <= 1;
    const isForward = bytes > 0;
    if (!isForward && isSmall) bytes = this.#host.settings.neighbourBytes;
    let reached = last;
    for (let position = last + 1; position < this.order.chunks.length && bytes > 0; position++) {
      const chunk = this.order.chunks[position] ?? 0;
      bytes -= index.chunkBlobOffset(chunk) + index.chunkSpanLength(chunk) - this.#spanEnd(position - 1);
      // A forward reader gets the next chunk, however large.
      if (bytes < 0 && !(isForward && position === last + 1)) break;
      reached = position;
      if (!this.#isOpen(chunk)) continue;
      this.#queue.add(position);
      this.#setState(chunk, State.queued | State.ahead, 0);
    }
    this.#readAhead.fetched(last, reached);
  }

  #spanEnd(position: number): number {
    const chunk = this.order.chunks[position] ?? 0;
    return this.store.index.chunkBlobOffset(chunk) + this.store.index.chunkSpanLength(chunk);
  }

  /** Whether a chunk is neither local nor on its way nor known to be bad. */
  #isOpen(chunk: number): boolean {
    return (
      !this.store.isLive(chunk) &&
      !this.store.isSuspect(chunk) &&
      !this.inFlight.has(chunk) &&
      !this.#hasState(chunk, ~State.counted & ~State.noCopy)
    );
  }

  /** Whether anything is queued for which a request can be made now. */
  get hasDemand(): boolean {
    return this.#queue.size > 0;
  }

  /** Takes what is queued as requests; those that somebody waits for come first. */
  takeDemand(): { plan: SpanPlan; cause: FetchCause; keep: boolean }[] {
    const { maxGapBytes } = this.#host.settings;
    const positions = [...this.#queue].sort((a, b) => a - b);
    this.#queue.clear();
    const taken: { plan: SpanPlan; cause: FetchCause; keep: boolean }[] = [];
    for (const keep of [false, true]) {
      const wanted = positions.filter((position) => this.#hasState(this.order.chunks[position] ?? 0, State.keep) === keep);
      const plans = planSpans(this.store.index, this.order, wanted, {
        maxGapBytes,
        maxRequestBytes: 16 * 1024 * 1024,
        isWanted: (chunk) => this.#isOpen(chunk),
      });
      for (const plan of plans) {
        const isWaitedFor = plan.chunks.some((chunk) => this.#hasState(chunk, State.queued) && !this.#hasState(chunk, State.ahead));
        taken.push({ plan, cause: isWaitedFor ? "on-demand" : "read-ahead", keep });
      }
    }
    return taken.sort((a, b) => Number(a.cause === "read-ahead") - Number(b.cause === "read-ahead"));
  }

  /** Puts a planned request back. */
  putBack(plan: SpanPlan): void {
    for (const chunk of plan.chunks) if (this.#hasState(chunk, State.queued)) this.#queue.add(this.order.positions[chunk] ?? 0);
  }

  /** A request for chunks was made. */
  started(run: TransferRun): void {
    for (const chunk of run.open) {
      this.inFlight.set(chunk, run);
      this.#setState(chunk, 0, State.queued | State.ahead);
    }
  }

  /** Next request of the prefetch (landmark range, recorded order), if any. */
  nextPrefetch(): SpanPlan[] {
    const sweep = this.#sweep(this.prefetchEnd, State.bad);
    if (sweep !== undefined) return [sweep];
    const positions: number[] = [];
    let bytes = 0;
    for (; this.#recordedAt < this.recorded.length && bytes < 4 * 1024 * 1024; this.#recordedAt++) {
      const chunk = this.recorded[this.#recordedAt] ?? 0;
      if (chunk >= this.#state.length || !this.#isOpen(chunk) || this.order.positions[chunk] === 0xffff_ffff) continue;
      positions.push(this.order.positions[chunk] ?? 0);
      bytes += this.store.index.chunkSpanLength(chunk);
    }
    if (positions.length === 0) return [];
    return planSpans(
      this.store.index,
      this.order,
      [...new Set(positions)].sort((a, b) => a - b),
      {
        maxGapBytes: this.#host.settings.maxGapBytes,
        maxRequestBytes: this.#host.settings.backgroundRequestBytes,
        isWanted: (chunk) => this.#isOpen(chunk),
      },
    );
  }

  /** Next request of the background fill, if any. */
  nextBackground(): SpanPlan | undefined {
    return this.#sweep(Number.POSITIVE_INFINITY, State.bad);
  }

  /** Takes the next stretch of missing chunks before `end`; has suspect ones hashed and known ones copied on the way. */
  #sweep(end: number, skip: number): SpanPlan | undefined {
    if (end <= 0) return undefined;
    const { index } = this.store;
    const { backgroundRequestBytes, maxGapBytes } = this.#host.settings;
    const suspects: number[] = [];
    const positions: number[] = [];
    let start = -1;
    for (; this.#cursor < this.order.chunks.length; this.#cursor++) {
      const chunk = this.order.chunks[this.#cursor] ?? 0;
      const offset = index.chunkBlobOffset(chunk);
      if (offset >= end) break;
      if (this.store.isSuspect(chunk) && !this.#hasState(chunk, State.checking)) {
        this.#setState(chunk, State.checking, 0);
        suspects.push(chunk);
        if (suspects.length >= 256) break;
        continue;
      }
      if (!this.#isOpen(chunk) || this.#hasState(chunk, skip)) continue;
      if (
        start >= 0 &&
        (this.#spanEnd(this.#cursor) - start > backgroundRequestBytes || offset - this.#spanEnd(positions.at(-1) ?? 0) > maxGapBytes)
      )
        break;
      if (this.#copy(chunk)) continue;
      if (start < 0) start = offset;
      positions.push(this.#cursor);
    }
    if (suspects.length > 0) this.#host.check(this, suspects, false);
    if (positions.length === 0) return undefined;
    return planSpans(index, this.order, positions, {
      maxGapBytes: Number.POSITIVE_INFINITY,
      maxRequestBytes: Number.POSITIVE_INFINITY,
      isWanted: (chunk) => this.#isOpen(chunk),
    })[0];
  }

  /** Starts the background sweep again: after failures, evictions, or a new location. */
  restartSweep(): void {
    this.#cursor = 0;
    for (let chunk = 0; chunk < this.#state.length; chunk++) this.#setState(chunk, 0, State.bad);
  }

  /** Bytes arrived. */
  onByte(): void {
    this.#lastByteMs = performance.now();
    this.#sources.onByte();
  }

  /** A decoder reports what became of a chunk. */
  onResult(result: ChunkResult, run: TransferRun | undefined): void {
    const { chunk } = result;
    if (run !== undefined && this.inFlight.get(chunk) === run) this.inFlight.delete(chunk);
    if (run === undefined) this.#setState(chunk, 0, State.checking | State.copying);
    switch (result.outcome) {
      case "stored":
        if (!this.#hasState(chunk, State.counted)) this.store.count(chunk, 1);
        this.#setState(chunk, State.counted, State.queued | State.ahead | State.noCopy | State.keep | State.bad);
        this.#queue.delete(this.order.positions[chunk] ?? 0);
        this.#failures.delete(chunk);
        this.#settle(chunk);
        break;
      case "bytes":
        if (result.storeError !== undefined) this.#host.onStoreError(this, result.storeError);
        if (result.bytes === undefined) break;
        this.#given.add(chunk, result.bytes);
        this.#settle(chunk, result.bytes);
        break;
      case "absent":
        if (this.#hasState(chunk, State.counted)) this.store.count(chunk, -1);
        this.#setState(chunk, State.noCopy, State.counted);
        this.#again(chunk);
        break;
      case "failed":
        this.#onBadChunk(result);
        break;
    }
  }

  #settle(chunk: number, bytes?: Uint8Array): void {
    const waiters = this.#waiters.get(chunk);
    if (waiters === undefined) return;
    this.#waiters.delete(chunk);
    for (const waiter of waiters) waiter.settle(chunk, bytes);
  }

  /** Forgets bytes that were held in memory because the disk did not take them, and lets the disk try again. */
  dropGiven(): void {
    this.#given.clear();
    for (let chunk = 0; chunk < this.#state.length; chunk++) this.#setState(chunk, 0, State.keep);
  }

  /** From now on these chunks' bytes are given and not written: their place on disk is being freed. */
  setKeep(chunks: readonly number[], keep: boolean): void {
    for (const chunk of chunks) this.#setState(chunk, keep ? State.keep : 0, keep ? State.counted : State.keep);
  }

  #again(chunk: number): void {
    if (!this.#waiters.has(chunk)) return;
    this.#want(chunk);
    this.#host.pump();
  }

  #onBadChunk(result: ChunkResult): void {
    const { chunk } = result;
    const count = (this.#failures.get(chunk) ?? 0) + 1;
    const error = new EstargzError(result.error?.code ?? "INVALID_COMPRESSION", result.error?.message ?? "damaged bytes");
    this.#lastError = error;
    this.#host.logger.error({ code: error.code, chunk, digest: this.store.index.tocDigest }, error.message);
    this.#sources.rotate();
    if (count < this.#sources.count) {
      this.#failures.set(chunk, count);
      this.#again(chunk);
      return;
    }
    // Every place gave wrong bytes. Who waits is told; the next read asks again.
    this.#failures.delete(chunk);
    this.#setState(chunk, State.bad, State.queued | State.ahead);
    this.#reject(chunk, error);
  }

  #reject(chunk: number, error: unknown): void {
    for (const waiter of this.#waiters.get(chunk) ?? []) waiter.fail(error);
    this.#waiters.delete(chunk);
  }

  /** A request failed; `chunks` are those it did not bring. */
  onFailure(run: TransferRun, chunks: readonly number[], error: unknown): void {
    this.#lastError = error;
    const code = error instanceof EstargzError ? error.code : undefined;
    const isLasting = this.#sources.onFailure(code);
    this.#host.logger.warn({ code, offset: run.shared.blobOffset, bytes: run.length }, "a request for a layer's bytes failed");
    for (const chunk of chunks) {
      if (this.inFlight.get(chunk) === run) this.inFlight.delete(chunk);
      if (isLasting) this.#reject(chunk, error);
      else if (this.#waiters.has(chunk) && !this.inFlight.has(chunk)) this.#want(chunk);
    }
    if (this.#cursor > 0) this.#cursor = 0;
    this.#host.pump();
  }

  /** The decoders are others now: what the former ones were told is told again. */
  onDecodersLost(): void {
    for (let chunk = 0; chunk < this.#state.length; chunk++) this.#setState(chunk, 0, State.checking | State.copying);
    for (const chunk of this.#waiters.keys()) this.#want(chunk);
    this.#cursor = 0;
    this.#host.pump();
  }

  /** Ends: who still waits is told so. */
  close(): void {
    this.closed = true;
    this.#queue.clear();
    const error = new EstargzError("CLOSED", "the layer is no longer attached");
    for (const chunk of this.#waiters.keys()) this.#reject(chunk, error);
    for (const run of new Set(this.inFlight.values())) run.abort.abort(error);
    this.#given.clear();
    this.#files.close();
  }
}

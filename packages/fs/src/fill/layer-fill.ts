import { EstargzError, type ReaderAt } from "@estargz/interface";
import { assembleRange } from "../store/assemble-range.ts";
import { ChunkFiles } from "../store/chunk-files.ts";
import type { LayerStore } from "../store/layer-store.ts";
import type { ChunkResult } from "./decoder.ts";
import { type DemandPlan, DemandQueue } from "./demand-queue.ts";
import { noBytes } from "./fill-counters.ts";
import type { FillHost } from "./fill-host.ts";
import type { GivenBytes } from "./given-bytes.ts";
import { ChunkState, LayerChunks } from "./layer-chunks.ts";
import type { SpanPlan } from "./plan-spans.ts";
import { createSourceRotation, type SourceRotation } from "./source-rotation.ts";
import { Sweep } from "./sweep.ts";
import type { FetchCause, TransferRun } from "./transfer-run.ts";
import { createWaiter, type Waiter } from "./waiter.ts";

const MAX_READ_ENDS = 64;

/**
 * What is fetched of one layer: which chunks are wanted, by whom, and what becomes of them. Knows no threads and no
 * requests: {@link FillScheduler} runs what is planned here.
 */
export class LayerFill {
  readonly store: LayerStore;
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
  readonly #host: FillHost;
  readonly #waiters = new Map<number, Set<Waiter>>();
  readonly #chunks: LayerChunks;
  readonly #queue: DemandQueue;
  readonly #sweep: Sweep;
  readonly #files: ChunkFiles;
  /** Where the last missing read of each file ended. */
  readonly #readEnds = new Map<number, number>();
  readonly #failures = new Map<number, number>();
  readonly #given: GivenBytes;
  readonly #sources: SourceRotation;
  /** Compressed bytes received, by cause. */
  readonly fetchedBytes: Record<FetchCause, number> = noBytes();
  #isUnreachable = false;
  #lastError: unknown;
  #lastByteMs = 0;

  constructor(store: LayerStore, readers: readonly ReaderAt[], host: FillHost) {
    this.store = store;
    this.#sources = createSourceRotation(readers);
    this.#host = host;
    this.#given = host.given.forLayer();
    this.#chunks = new LayerChunks(store);
    this.#queue = new DemandQueue(this.#chunks, host.settings);
    this.#sweep = new Sweep(this.#chunks, host.settings, {
      check: (chunks) => host.check(this, chunks, false),
      copy: (chunk) => this.#copy(chunk),
    });
    this.#files = new ChunkFiles(store.init(), host.files);
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
    for (const chunk of unreadable) this.#chunks.change(chunk, ChunkState.keep | ChunkState.noCopy, ChunkState.counted);
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
      isMoving: () =>
        performance.now() - this.#lastByteMs < settings.sourceTimeoutMs && chunks.some((chunk) => this.#chunks.inFlight.has(chunk)),
      lastError: () => this.#lastError,
    });
    for (const chunk of chunks) {
      const waiters = this.#waiters.get(chunk);
      if (waiters === undefined) this.#waiters.set(chunk, new Set([waiter]));
      else waiters.add(waiter);
      this.#want(chunk);
    }
    this.#host.onMiss();
    this.#queue.lookAhead(chunks, continues);
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

  /** Sees to it that a chunk somebody waits for comes as soon as possible. */
  #want(chunk: number): void {
    if (this.store.isLive(chunk)) {
      this.#settle(chunk);
      return;
    }
    if (this.#chunks.has(chunk, ChunkState.checking | ChunkState.copying)) return;
    if (this.store.isSuspect(chunk)) {
      this.#chunks.change(chunk, ChunkState.checking, 0);
      this.#host.check(this, [chunk], true);
      return;
    }
    const run = this.#chunks.inFlight.get(chunk);
    if (run !== undefined) {
      const { index } = this.store;
      const until = index.chunkBlobOffset(chunk) + index.chunkSpanLength(chunk) - run.shared.blobOffset;
      if (this.#host.isWorthJoining(run, until)) return;
    } else {
      this.firstUse.add(chunk);
      if (this.#copy(chunk)) return;
    }
    this.#queue.add(chunk);
  }

  #copy(chunk: number): boolean {
    if (this.#chunks.has(chunk, ChunkState.noCopy) || !this.#host.copy(this, chunk)) return false;
    this.#chunks.change(chunk, ChunkState.copying, 0);
    return true;
  }

  /** Whether anything is queued for which a request can be made now. */
  get hasDemand(): boolean {
    return !this.#queue.isEmpty;
  }

  /** Takes what is queued as requests; those that somebody waits for come first. */
  takeDemand(): DemandPlan[] {
    return this.#queue.take();
  }

  /** Puts a planned request back. */
  putBack(plan: SpanPlan): void {
    this.#queue.putBack(plan);
  }

  /** A request for chunks was made. */
  started(run: TransferRun): void {
    for (const chunk of run.open) {
      this.#chunks.inFlight.set(chunk, run);
      this.#chunks.change(chunk, 0, ChunkState.queued | ChunkState.ahead);
    }
  }

  /** Next requests of the prefetch (landmark range, recorded order), if any. */
  nextPrefetch(): SpanPlan[] {
    return this.#sweep.nextPrefetch(this.prefetchEnd, this.recorded);
  }

  /** Next request of the background fill, if any. */
  nextBackground(): SpanPlan | undefined {
    return this.#sweep.nextBackground();
  }

  /** Starts the background sweep again: after failures, evictions, or a new location. */
  restartSweep(): void {
    this.#sweep.restart();
    this.#chunks.clearAll(ChunkState.bad);
  }

  /** Bytes arrived. */
  onBytes(cause: FetchCause, bytes: number): void {
    this.#lastByteMs = performance.now();
    this.fetchedBytes[cause] += bytes;
    this.#sources.onByte();
    if (!this.#isUnreachable) return;
    this.#isUnreachable = false;
    this.#host.onSourceState(this, true, undefined);
  }

  /** A decoder reports what became of a chunk. */
  onResult(result: ChunkResult, run: TransferRun | undefined): void {
    const { chunk } = result;
    if (run !== undefined && this.#chunks.inFlight.get(chunk) === run) this.#chunks.inFlight.delete(chunk);
    if (run === undefined) this.#chunks.change(chunk, 0, ChunkState.checking | ChunkState.copying);
    switch (result.outcome) {
      case "stored":
        if (!this.#chunks.has(chunk, ChunkState.counted)) this.store.count(chunk, 1);
        this.#chunks.change(
          chunk,
          ChunkState.counted,
          ChunkState.queued | ChunkState.ahead | ChunkState.noCopy | ChunkState.keep | ChunkState.bad,
        );
        this.#queue.delete(chunk);
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
        if (this.#chunks.has(chunk, ChunkState.counted)) this.store.count(chunk, -1);
        this.#chunks.change(chunk, ChunkState.noCopy, ChunkState.counted);
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
    this.#chunks.clearAll(ChunkState.keep);
  }

  /** From now on these chunks' bytes are given and not written: their place on disk is being freed. */
  setKeep(chunks: readonly number[], keep: boolean): void {
    for (const chunk of chunks) this.#chunks.change(chunk, keep ? ChunkState.keep : 0, keep ? ChunkState.counted : ChunkState.keep);
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
    this.#chunks.change(chunk, ChunkState.bad, ChunkState.queued | ChunkState.ahead);
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
    if (!this.#isUnreachable && this.#sources.isExhausted) {
      this.#isUnreachable = true;
      this.#host.onSourceState(this, false, code);
    }
    this.#host.logger.warn({ code, offset: run.shared.blobOffset, bytes: run.length }, "a request for a layer's bytes failed");
    for (const chunk of chunks) {
      if (this.#chunks.inFlight.get(chunk) === run) this.#chunks.inFlight.delete(chunk);
      if (isLasting) this.#reject(chunk, error);
      else if (this.#waiters.has(chunk) && !this.#chunks.inFlight.has(chunk)) this.#want(chunk);
    }
    this.#sweep.restart();
    this.#host.pump();
  }

  /** The decoders are others now: what the former ones were told is told again. */
  onDecodersLost(): void {
    this.#chunks.clearAll(ChunkState.checking | ChunkState.copying);
    for (const chunk of this.#waiters.keys()) this.#want(chunk);
    this.#sweep.restart();
    this.#host.pump();
  }

  /** Ends: who still waits is told so. */
  close(): void {
    this.closed = true;
    this.#queue.clear();
    const error = new EstargzError("CLOSED", "the layer is no longer attached");
    for (const chunk of this.#waiters.keys()) this.#reject(chunk, error);
    for (const run of new Set(this.#chunks.inFlight.values())) run.abort.abort(error);
    this.#given.clear();
    this.#files.close();
  }
}

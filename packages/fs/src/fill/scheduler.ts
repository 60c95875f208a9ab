import { EstargzError, type Logger, PRIORITY_BACKGROUND, PRIORITY_ON_DEMAND, PRIORITY_PREFETCH } from "@estargz/interface";
import { type Deferred, deferred } from "../deferred.ts";
import { diskBytes } from "../store/disk-bytes.ts";
import { createOpenFiles, type OpenFiles } from "../store/open-files.ts";
import { nodeStoreFiles } from "../store/store-files.ts";
import type { ChunkResult, DecoderOrder } from "./decoder.ts";
import type { DecoderPool } from "./decoder-pool.ts";
import { DecoderUrgency } from "./decoder-urgency.ts";
import { FillCounters } from "./fill-counters.ts";
import type { FillHost } from "./fill-host.ts";
import { createGivenBudget, type GivenBudget } from "./given-bytes.ts";
import type { LayerFill } from "./layer-fill.ts";
import { createLinkEstimate, type LinkEstimate } from "./link-estimate.ts";
import type { FillSettings } from "./options.ts";
import { excessBytes, type SpanPlan } from "./plan-spans.ts";
import type { FillStatistics, SchedulerOptions } from "./scheduler-options.ts";
import { createSpareBuffers, type SpareBuffers } from "./spare-buffers.ts";
import { StoreHealth } from "./store-health.ts";
import { describeTransfer, TransferWord } from "./transfer.ts";
import { type FetchCause, runTransfer, type TransferHost, type TransferRun } from "./transfer-run.ts";

const PRIORITIES: Readonly<Record<FetchCause, number>> = {
  "on-demand": PRIORITY_ON_DEMAND,
  "read-ahead": PRIORITY_PREFETCH + 1,
  prefetch: PRIORITY_PREFETCH,
  background: PRIORITY_BACKGROUND,
};
/** A background request is held back at most this long at a time: its connection has to stay alive. */
const MAX_PAUSE_MS = 1000;
const STALL_CHECK_MS = 250;

/**
 * Orders everything that is fetched: reads that somebody waits for, read-ahead, prefetch, background. One for all layers;
 * it owns the requests and the threads that decode. Nothing that is under way is ever cancelled for something else:
 * it is held back, or raised when somebody comes to need it.
 */
export class FillScheduler implements FillHost, TransferHost {
  readonly settings: FillSettings;
  readonly logger: Logger;
  readonly #options: SchedulerOptions;
  readonly #pool: DecoderPool;
  readonly #layers = new Map<number, LayerFill>();
  readonly #runs = new Map<number, { run: TransferRun; layer: LayerFill }>();
  readonly #links = new Map<LayerFill, LinkEstimate>();
  readonly #counters: FillCounters;
  readonly #health: StoreHealth;
  readonly #urgency: DecoderUrgency;
  readonly #spare: SpareBuffers;
  readonly given: GivenBudget;
  readonly files: OpenFiles = createOpenFiles(nodeStoreFiles);
  readonly #stallTimer: NodeJS.Timeout;
  #pumping: NodeJS.Immediate | undefined;
  #wakeUp: NodeJS.Timeout | undefined;
  #nextId = 1;
  #demand = 0;
  #background = 0;
  #bytesInFlight = 0;
  #reservedBytes = 0;
  #lastDemandMs = Number.NEGATIVE_INFINITY;
  #resume: Deferred<void> | undefined;
  #closed = false;

  constructor(
    options: SchedulerOptions,
    startPool: (
      onResults: (results: readonly ChunkResult[]) => void,
      onFailure: (error: unknown) => void,
      isBusy: () => boolean,
    ) => DecoderPool,
  ) {
    this.settings = options.settings;
    this.logger = options.logger;
    this.#options = options;
    this.#counters = new FillCounters(options.metrics);
    this.#health = new StoreHealth(options.logger, options.onStoreState);
    this.given = createGivenBudget(options.settings.unstoredBytes);
    this.#spare = createSpareBuffers(options.settings.backgroundRequestBytes);
    this.#pool = startPool(
      (results) => this.#onResults(results),
      (error) => this.#onPoolFailure(error),
      () => this.#runs.size > 0,
    );
    this.#urgency = new DecoderUrgency(
      (urgent) => this.#pool.setUrgent(urgent),
      () => this.#demand > 0,
    );
    this.#stallTimer = setInterval(() => this.#abortStalled(), STALL_CHECK_MS);
    this.#stallTimer.unref();
  }

  /** Takes a layer up. */
  add(layer: LayerFill): void {
    this.#layers.set(layer.store.id, layer);
    this.#links.set(layer, createLinkEstimate());
    this.#urgency.apply();
    // Whoever attaches a layer is about to read from it.
    this.#lastDemandMs = performance.now();
    this.order({ type: "layer", init: layer.store.init() });
    this.pump();
  }

  /** Lets a layer go; who still waits for its bytes is told so. */
  remove(layer: LayerFill): void {
    layer.close();
    this.#layers.delete(layer.store.id);
    this.#links.delete(layer);
    this.order({ type: "forget-layer", layer: layer.store.id });
  }

  /** Gives an order to the decoders. */
  order(order: DecoderOrder): void {
    if (!this.#closed) this.#pool.order(order);
  }

  /** Bytes of disk that requests under way will take. */
  get reservedBytes(): number {
    return this.#reservedBytes;
  }

  statistics(): FillStatistics {
    return this.#counters.statistics();
  }

  /** Whether the store refused bytes lately: everything then comes from the source. */
  get isDegraded(): boolean {
    return this.#health.isDegraded;
  }

  check(layer: LayerFill, chunks: readonly number[], urgent: boolean): void {
    this.order({ type: "check", layer: layer.store.id, chunks, urgent });
  }

  copy(layer: LayerFill, chunk: number): boolean {
    const { index } = layer.store;
    if (index.chunkIsZeros(chunk)) {
      this.order({ type: "copy", copy: { from: layer.store.id, fromChunk: chunk, to: layer.store.id, chunk } });
      return true;
    }
    const digest = index.chunkDigest(chunk);
    if (digest === undefined || !index.verified || this.isDegraded) return false;
    const found = this.#options.digests.find(digest, (id, other) => {
      const from = this.#layers.get(id);
      return (
        from !== undefined && from !== layer && from.store.isLive(other) && from.store.index.chunkLength(other) === index.chunkLength(chunk)
      );
    });
    if (found === undefined || !this.#options.reserve(index.chunkLength(chunk), true)) return false;
    this.#counters.copied();
    this.order({ type: "copy", copy: { from: found.layer, fromChunk: found.chunk, to: layer.store.id, chunk } });
    return true;
  }

  isWorthJoining(run: TransferRun, untilByte: number): boolean {
    const { layer } = this.#runs.get(run.shared.id) ?? {};
    const link = layer === undefined ? undefined : this.#links.get(layer);
    if (run.ended || run.received >= untilByte || run.urgent || link === undefined) {
      this.#promote(run);
      return true;
    }
    const joinMs = (untilByte - run.received) / link.bytesPerMs;
    if (joinMs > 2 * link.roundTripMs + 5) return false;
    this.#promote(run);
    return true;
  }

  #promote(run: TransferRun): void {
    if (run.urgent) return;
    run.urgent = true;
    Atomics.store(new Int32Array(run.shared.state), TransferWord.priority, PRIORITY_ON_DEMAND);
    this.#wakePaused();
  }

  onStoreError(layer: LayerFill, code: string): void {
    this.#counters.storeError(code);
    this.#pumpIn(this.#health.onError(code, layer.store.directory) + 10);
  }

  onSourceState(layer: LayerFill, reachable: boolean, code: string | undefined): void {
    this.#options.onSourceState?.(layer, reachable, code);
  }

  onMiss(): void {
    this.#urgency.raise();
    this.#counters.miss();
    this.#lastDemandMs = performance.now();
  }

  pump(): void {
    if (this.#closed) return;
    this.#pumping ??= setImmediate(() => {
      this.#pumping = undefined;
      this.#pumpDemand();
      this.#pumpBackground();
    });
  }

  #pumpIn(ms: number): void {
    if (this.#wakeUp !== undefined || this.#closed) return;
    this.#wakeUp = setTimeout(() => {
      this.#wakeUp = undefined;
      this.pump();
    }, ms);
    this.#wakeUp.unref();
  }

  #pumpDemand(): void {
    const now = performance.now();
    const { maxDemandRequests, maxDemandRequestsPerLayer } = this.settings;
    for (const layer of this.#layers.values()) {
      if (!layer.hasDemand) continue;
      if (layer.retryAtMs > now) {
        this.#pumpIn(layer.retryAtMs - now + 1);
        continue;
      }
      if (layer.demandRequests >= maxDemandRequestsPerLayer || this.#demand >= maxDemandRequests) continue;
      for (const { plan, cause, keep } of layer.takeDemand()) {
        // One request always goes, however large; more of them share the memory.
        const isCrowded = this.#demand > 0 && this.#bytesInFlight + plan.length > 2 * this.settings.memoryBytes;
        if (isCrowded || layer.demandRequests >= maxDemandRequestsPerLayer || this.#demand >= maxDemandRequests) layer.putBack(plan);
        else this.#start(layer, plan, cause, keep);
      }
    }
  }

  #pumpBackground(): void {
    const { settings } = this;
    const now = performance.now();
    if (this.isDegraded) return;
    const layers = [...this.#layers.values()].filter((layer) => layer.attached).sort((a, b) => b.rank - a.rank);
    const mayFetch = (): boolean => this.#background < settings.maxBackgroundRequests && this.#bytesInFlight < settings.memoryBytes;
    for (const layer of layers) {
      if (!this.#isReady(layer, now)) continue;
      while (mayFetch()) {
        const plans = layer.nextPrefetch();
        if (plans.length === 0) break;
        for (const plan of plans) this.#start(layer, plan, "prefetch", false);
      }
    }
    if (settings.background === "off" || !mayFetch()) return;
    if (settings.background === "idle") {
      const quietMs = this.#demand > 0 ? 0 : now - this.#lastDemandMs;
      if (quietMs < settings.idleMs) {
        this.#pumpIn(Math.max(1, settings.idleMs - quietMs));
        return;
      }
    }
    for (const layer of layers) {
      if (!this.#isReady(layer, now)) continue;
      while (mayFetch()) {
        const plan = layer.nextBackground();
        if (plan === undefined || !this.#start(layer, plan, "background", false)) break;
      }
    }
  }

  #isReady(layer: LayerFill, now: number): boolean {
    if (layer.retryAtMs <= now) return true;
    this.#pumpIn(layer.retryAtMs - now + 1);
    return false;
  }

  /** Makes a request. Background requests that the store has no room for are left. */
  #start(layer: LayerFill, plan: SpanPlan, cause: FetchCause, keep: boolean): boolean {
    const { index } = layer.store;
    let bytes = 0;
    for (const chunk of plan.chunks) bytes += diskBytes(index, chunk);
    const isDemand = cause === "on-demand" || cause === "read-ahead";
    const hasRoom = keep || this.#options.reserve(bytes, isDemand);
    if (!hasRoom && !isDemand) return false;
    const shared = describeTransfer({
      id: this.#nextId++,
      layer: layer.store.id,
      index,
      blobOffset: plan.offset,
      length: plan.length,
      chunks: plan.chunks,
      priority: PRIORITIES[cause],
      keep: keep || !hasRoom,
      bytes: this.#spare.take(plan.length),
    });
    const run: TransferRun = {
      shared,
      cause,
      length: plan.length,
      open: new Set(plan.chunks),
      urgent: cause === "on-demand",
      received: 0,
      lastPieceMs: performance.now(),
      paused: false,
      ended: false,
      reservedBytes: keep || !hasRoom ? 0 : bytes,
      abort: new AbortController(),
    };
    this.#reservedBytes += run.reservedBytes;
    this.#runs.set(shared.id, { run, layer });
    this.#counters.request(cause, excessBytes(index, plan));
    this.#bytesInFlight += plan.length;
    if (isDemand) {
      this.#urgency.raise();
      this.#demand++;
      layer.demandRequests++;
    } else {
      this.#background++;
    }
    layer.started(run);
    this.order({ type: "transfer", transfer: shared });
    void this.#run(run, layer, isDemand);
    return true;
  }

  async #run(run: TransferRun, layer: LayerFill, isDemand: boolean): Promise<void> {
    let failure: { error: unknown } | undefined;
    try {
      await runTransfer(run, layer.reader(), PRIORITIES[run.cause], this);
    } catch (error) {
      failure = { error };
    }
    run.ended = true;
    if (isDemand) {
      this.#demand--;
      layer.demandRequests--;
      if (this.#demand === 0) this.#wakePaused();
      if (run.cause === "on-demand") this.#lastDemandMs = performance.now();
    } else {
      this.#background--;
    }
    if (failure !== undefined) this.#onFailure(run, layer, failure.error);
    this.#finish(run);
    this.pump();
  }

  #onFailure(run: TransferRun, layer: LayerFill, error: unknown): void {
    const { shared } = run;
    // What no decoder has taken yet will not be taken any more.
    const claimed = Atomics.exchange(new Int32Array(shared.state), TransferWord.claimed, 0x7fff_ffff);
    if (run.open.size === 0) return;
    const lost: number[] = [];
    for (let at = shared.members[claimed] ?? shared.chunks.length; at < shared.chunks.length; at++) {
      const chunk = shared.chunks[at] ?? 0;
      run.open.delete(chunk);
      lost.push(chunk);
    }
    if (!layer.closed && !this.#closed) layer.onFailure(run, lost, error);
  }

  /** Forgets a request when it has ended and all its chunks are reported. */
  #finish(run: TransferRun): void {
    if (!run.ended || run.open.size > 0 || !this.#runs.delete(run.shared.id)) return;
    this.#spare.give(run.shared.bytes);
    this.#bytesInFlight -= run.length;
    this.#unreserve(run, run.reservedBytes);
  }

  /** What is counted as stored is not set aside any more. */
  #unreserve(run: TransferRun, wanted: number): void {
    const bytes = Math.min(run.reservedBytes, wanted);
    run.reservedBytes -= bytes;
    this.#reservedBytes -= bytes;
  }

  #onResults(results: readonly ChunkResult[]): void {
    for (const result of results) {
      const layer = this.#layers.get(result.layer);
      const run = this.#runs.get(result.transfer)?.run;
      if (run !== undefined) {
        if (run.open.delete(result.chunk) && layer !== undefined) this.#unreserve(run, diskBytes(layer.store.index, result.chunk));
        this.#finish(run);
      }
      this.#counters.chunk(result.outcome);
      if (result.outcome === "stored" && result.transfer !== 0) this.#health.onStored();
      layer?.onResult(result, run);
    }
    this.pump();
  }

  #onPoolFailure(error: unknown): void {
    if (this.#closed) return;
    this.logger.error(
      { code: "IO_ERROR" },
      `a decoder thread ended and is replaced: ${error instanceof Error ? error.message : String(error)}`,
    );
    // Nobody knows what it had in hand: everything under way is asked for again.
    const failure = new EstargzError("IO_ERROR", "a decoder thread ended", { cause: error });
    for (const { run } of this.#runs.values()) {
      Atomics.store(new Int32Array(run.shared.state), TransferWord.claimed, 0x7fff_ffff);
      run.abort.abort(failure);
      this.#layers.get(run.shared.layer)?.onFailure(run, [...run.open], failure);
      run.open.clear();
      this.#finish(run);
    }
    // The threads that go on may still be in these.
    this.#spare.clear();
    for (const layer of this.#layers.values()) {
      this.order({ type: "layer", init: layer.store.init() });
      layer.onDecodersLost();
    }
  }

  #abortStalled(): void {
    const limit = performance.now() - this.settings.stallTimeoutMs;
    for (const { run } of this.#runs.values()) {
      if (run.ended || run.paused || run.lastPieceMs > limit) continue;
      run.abort.abort(new EstargzError("TIMEOUT", `no byte arrived for ${this.settings.stallTimeoutMs} ms`));
    }
  }

  wake(): void {
    this.#pool.wake();
  }

  turn(run: TransferRun): Promise<void> | undefined {
    if (run.urgent || this.#demand === 0 || run.cause === "read-ahead") return undefined;
    this.#resume ??= deferred<void>();
    const { promise } = this.#resume;
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, MAX_PAUSE_MS);
    });
    return Promise.race([promise, timeout]).finally(() => clearTimeout(timer));
  }

  #wakePaused(): void {
    this.#resume?.resolve();
    this.#resume = undefined;
  }

  onFirstByte(run: TransferRun, afterMs: number): void {
    const { layer } = this.#runs.get(run.shared.id) ?? {};
    if (layer !== undefined) this.#links.get(layer)?.firstByte(afterMs);
  }

  onPiece(run: TransferRun, bytes: number): void {
    const { layer } = this.#runs.get(run.shared.id) ?? {};
    this.#counters.fetched(run.cause, bytes);
    if (layer === undefined) return;
    layer.onBytes(run.cause, bytes);
    this.#links.get(layer)?.piece(bytes, performance.now());
  }

  /** Ends all requests and threads. What was verified is on disk afterwards. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#stallTimer);
    clearTimeout(this.#wakeUp);
    this.#urgency.close();
    if (this.#pumping !== undefined) clearImmediate(this.#pumping);
    this.#wakePaused();
    for (const { run } of this.#runs.values()) run.abort.abort(new EstargzError("CLOSED", "the layer file system was closed"));
    for (const layer of this.#layers.values()) layer.close();
    await this.#pool.close();
  }
}

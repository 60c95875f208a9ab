import { getPriority, setPriority } from "node:os";
import { Worker } from "node:worker_threads";
import { workerOptions, workerUrl } from "../worker-url.ts";
import type { DecodeWorkerData } from "./decode-worker.ts";
import type { ChunkResult, DecoderOrder } from "./decoder.ts";

/** Threads that are replaced at most, so that one that cannot even start is not started for ever. */
const MAX_REPLACEMENTS = 100;

/** Decoders that share their work: threads, or in tests one in the caller's thread. */
export interface DecoderPool {
  /** Gives an order to all decoders (layers, transfers) or to one (checks, copies). */
  order(order: DecoderOrder): void;
  /** Says that bytes of a transfer arrived. */
  wake(): void;
  /** Whether somebody waits for what is decoded: if not, whatever else runs on the machine comes first. */
  setUrgent(urgent: boolean): void;
  close(): Promise<void>;
}

/** Options of {@link startDecoderPool}. */
export interface DecoderPoolOptions {
  readonly threads: number;
  /** Niceness of the threads while nobody waits for them, 0 to 19. Needs the privilege to take it back (root). */
  readonly nice: number;
  /** Whether libdeflate is used where there is one. */
  readonly native: boolean;
  /** The threads end after this long without an order; the next order starts others. */
  readonly idleMs: number;
  /** Whether transfers are under way: then the threads stay. */
  readonly isBusy: () => boolean;
  readonly onResults: (results: readonly ChunkResult[]) => void;
  /** A thread died and was replaced: what it had claimed will not be reported. */
  readonly onFailure: (error: unknown) => void;
}

/** Starts threads that decompress, verify and write. */
export function startDecoderPool(options: DecoderPoolOptions): DecoderPool {
  return new ThreadPool(options);
}

class ThreadPool implements DecoderPool {
  readonly #options: DecoderPoolOptions;
  readonly #news = new SharedArrayBuffer(4);
  readonly #counter = new Int32Array(this.#news);
  readonly #threads: SharedArrayBuffer;
  /** What a thread that is started later has to know. */
  readonly #layers = new Map<number, DecoderOrder>();
  readonly #ending = new Set<Promise<unknown>>();
  readonly #usualNice = getPriority();
  #workers: Worker[] = [];
  #closed: Promise<void> | undefined;
  #replacements = 0;
  #turn = 0;
  /** Checks and copies that no result was given for yet. */
  #inHand = 0;
  #lastUseMs = 0;
  #idle: NodeJS.Timeout | undefined;
  #canRaise: boolean;

  constructor(options: DecoderPoolOptions) {
    this.#options = options;
    this.#threads = new SharedArrayBuffer(4 * options.threads);
    this.#canRaise = options.nice > 0 && process.getuid?.() === 0;
    this.#startAll();
  }

  #startAll(): void {
    this.#lastUseMs = performance.now();
    if (this.#workers.length > 0 || this.#closed !== undefined) return;
    for (let slot = 0; slot < this.#options.threads; slot++) this.#workers.push(this.#start(slot));
    this.#restAfter(this.#options.idleMs);
  }

  #start(slot: number): Worker {
    const workerData: DecodeWorkerData = { news: this.#news, threads: this.#threads, slot, native: this.#options.native };
    const worker = new Worker(workerUrl("./decode-worker", import.meta.url), {
      ...workerOptions(import.meta.url),
      workerData,
      name: "estargz-decoder",
    });
    worker.on("message", (results: readonly ChunkResult[]) => this.#onResults(results));
    worker.on("error", (error) => this.#onError(worker, error));
    worker.unref();
    for (const layer of this.#layers.values()) worker.postMessage(layer);
    return worker;
  }

  #onResults(results: readonly ChunkResult[]): void {
    for (const result of results) if (result.transfer === 0) this.#inHand--;
    this.#options.onResults(results);
  }

  #onError(worker: Worker, error: unknown): void {
    const at = this.#workers.indexOf(worker);
    if (at < 0 || this.#closed !== undefined || this.#replacements >= MAX_REPLACEMENTS) return;
    this.#replacements++;
    this.#inHand = 0;
    this.#workers[at] = this.#start(at);
    this.#options.onFailure(error);
  }

  #restAfter(milliseconds: number): void {
    this.#idle = setTimeout(() => {
      const left = this.#lastUseMs + this.#options.idleMs - performance.now();
      if (left > 0 || this.#inHand > 0 || this.#options.isBusy()) this.#restAfter(Math.max(left, this.#options.idleMs / 4));
      else this.#endAll();
    }, milliseconds);
    this.#idle.unref();
  }

  #endAll(): void {
    clearTimeout(this.#idle);
    for (const worker of this.#workers) {
      const exit = new Promise((resolve) => worker.once("exit", resolve)).finally(() => this.#ending.delete(exit));
      this.#ending.add(exit);
      worker.ref();
      worker.postMessage({ type: "close" } satisfies DecoderOrder);
    }
    this.#workers = [];
    new Int32Array(this.#threads).fill(0);
    this.wake();
  }

  wake(): void {
    Atomics.add(this.#counter, 0, 1);
    Atomics.notify(this.#counter, 0);
  }

  setUrgent(urgent: boolean): void {
    if (!this.#canRaise) return;
    const nice = urgent ? this.#usualNice : Math.min(19, this.#usualNice + this.#options.nice);
    try {
      for (const thread of new Int32Array(this.#threads)) if (thread > 0) setPriority(thread, nice);
    } catch {
      // Without the privilege to take it back, niceness would hold up who waits: never again.
      this.#canRaise = false;
    }
  }

  order(order: DecoderOrder): void {
    if (order.type === "forget-layer") this.#layers.delete(order.layer);
    else this.#startAll();
    if (order.type === "layer") this.#layers.set(order.init.layer, order);
    if (order.type === "check" || order.type === "copy") {
      this.#inHand += order.type === "check" ? order.chunks.length : 1;
      this.#workers[this.#turn % this.#workers.length]?.postMessage(order);
      this.#turn++;
    } else {
      for (const worker of this.#workers) worker.postMessage(order);
    }
    this.wake();
  }

  close(): Promise<void> {
    this.#closed ??= (async () => {
      this.#endAll();
      await Promise.all(this.#ending);
    })();
    return this.#closed;
  }
}

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

/** Starts threads that decompress, verify and write. */
export function startDecoderPool(options: {
  readonly threads: number;
  /** Niceness of the threads while nobody waits for them, 0 to 19. Needs the privilege to take it back (root). */
  readonly nice: number;
  /** Whether libdeflate is used where there is one. */
  readonly native: boolean;
  readonly onResults: (results: readonly ChunkResult[]) => void;
  /** A thread died and was replaced: what it had claimed will not be reported, and the new one knows no layer yet. */
  readonly onFailure: (error: unknown) => void;
}): DecoderPool {
  const news = new SharedArrayBuffer(4);
  const counter = new Int32Array(news);
  const threads = new SharedArrayBuffer(4 * options.threads);
  let closed: Promise<void> | undefined;
  let replacements = 0;
  const start = (slot: number): Worker => {
    const workerData: DecodeWorkerData = { news, threads, slot, native: options.native };
    const worker = new Worker(workerUrl("./decode-worker", import.meta.url), {
      ...workerOptions(import.meta.url),
      workerData,
      name: "estargz-decoder",
    });
    worker.on("message", options.onResults);
    worker.on("error", (error) => {
      const at = workers.indexOf(worker);
      if (at < 0 || closed !== undefined || replacements >= MAX_REPLACEMENTS) return;
      replacements++;
      workers[at] = start(at);
      options.onFailure(error);
    });
    worker.unref();
    return worker;
  };
  const workers: Worker[] = [];
  for (let thread = 0; thread < options.threads; thread++) workers.push(start(thread));
  let turn = 0;
  const wake = (): void => {
    Atomics.add(counter, 0, 1);
    Atomics.notify(counter, 0);
  };
  let canRaise = options.nice > 0 && process.getuid?.() === 0;
  const usual = getPriority();
  const setNice = (nice: number): void => {
    if (!canRaise) return;
    try {
      for (const thread of new Int32Array(threads)) if (thread > 0) setPriority(thread, nice);
    } catch {
      // Without the privilege to take it back, niceness would hold up who waits: never again.
      canRaise = false;
    }
  };
  return {
    wake,
    setUrgent: (urgent) => setNice(urgent ? usual : Math.min(19, usual + options.nice)),
    order(order) {
      if (order.type === "copy" || order.type === "check") {
        workers[turn % workers.length]?.postMessage(order);
        turn++;
      } else {
        for (const worker of workers) worker.postMessage(order);
      }
      wake();
    },
    close() {
      closed ??= (async () => {
        const exits = workers.map((worker) => new Promise((resolve) => worker.once("exit", resolve)));
        for (const worker of workers) worker.ref();
        for (const worker of workers) worker.postMessage({ type: "close" } satisfies DecoderOrder);
        wake();
        await Promise.all(exits);
      })();
      return closed;
    },
  };
}

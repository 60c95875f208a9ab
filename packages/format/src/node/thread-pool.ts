import { Worker } from "node:worker_threads";
import { EstargzError } from "@estargz/interface";
import type { Batch, BatchPool, CompressedBatch, CompressionSettings } from "../writer/batch.ts";

interface Job {
  readonly batch: Batch;
  readonly resolve: (result: CompressedBatch) => void;
  readonly reject: (error: unknown) => void;
}

interface Thread {
  readonly worker: Worker;
  readonly jobs: Job[];
}

/** Jobs that wait at one thread besides the one it works on. */
const MAX_QUEUED = 1;

/** Threads that compress batches. They are started as they are needed and end with `close`. */
export function createThreadPool(settings: CompressionSettings, maxThreads: number): BatchPool {
  const threads: Thread[] = [];
  const waiting: Job[] = [];
  let closed = false;

  const fail = (thread: Thread, cause: unknown): void => {
    threads.splice(threads.indexOf(thread), 1);
    const error = new EstargzError("IO_ERROR", "a thread that compresses has ended", { cause });
    for (const job of thread.jobs.splice(0)) job.reject(error);
    for (const job of waiting.splice(0)) job.reject(error);
  };
  const start = (): Thread => {
    const isSource = import.meta.url.endsWith(".ts");
    const worker = new Worker(new URL(isSource ? "./compress-worker.ts" : "./compress-worker.js", import.meta.url), {
      workerData: settings,
      ...(isSource ? { execArgv: ["--conditions=@estargz/source"] } : {}),
    });
    const thread: Thread = { worker, jobs: [] };
    worker.on("message", (result: CompressedBatch) => {
      thread.jobs.shift()?.resolve(result);
      dispatch();
    });
    worker.on("error", (error) => fail(thread, error));
    worker.on("exit", (code) => {
      if (!closed && threads.includes(thread)) fail(thread, new Error(`exit code ${code}`));
    });
    threads.push(thread);
    return thread;
  };
  const dispatch = (): void => {
    while (waiting.length > 0) {
      let thread = threads.find(({ jobs }) => jobs.length === 0);
      if (thread === undefined && threads.length < maxThreads) thread = start();
      thread ??= threads.find(({ jobs }) => jobs.length <= MAX_QUEUED);
      if (thread === undefined) return;
      const job = waiting.shift() as Job;
      thread.jobs.push(job);
      thread.worker.postMessage(job.batch, [job.batch.bytes.buffer]);
    }
  };

  return {
    run(batch) {
      return new Promise((resolve, reject) => {
        if (closed) {
          reject(new EstargzError("CLOSED", "this pool of threads was closed"));
          return;
        }
        waiting.push({ batch, resolve, reject });
        dispatch();
      });
    },
    async close() {
      closed = true;
      await Promise.all(threads.map(({ worker }) => worker.terminate()));
    },
  };
}

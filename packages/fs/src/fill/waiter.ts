import { EstargzError } from "@estargz/interface";
import { deferred } from "../deferred.ts";

/** Somebody who waits for chunks. */
export interface Waiter {
  /** Chunks that are still missing. */
  readonly missing: Set<number>;
  /** Chunks whose bytes were given because they could not be kept. */
  readonly given: Map<number, Uint8Array>;
  readonly done: Promise<void>;
  /** Ends the waiting for a chunk. */
  settle(chunk: number, bytes?: Uint8Array): void;
  fail(error: unknown): void;
}

/**
 * Makes a waiter for chunks that gives up when its signal says so, or when for `timeoutMs` nothing came.
 *
 * @param isMoving - Says at the deadline whether bytes have arrived lately, so that slow is not taken for dead.
 */
export function createWaiter(options: {
  readonly chunks: readonly number[];
  readonly signal: AbortSignal | undefined;
  readonly timeoutMs: number;
  readonly isMoving: () => boolean;
  readonly lastError: () => unknown;
}): Waiter {
  const { signal, timeoutMs } = options;
  const missing = new Set(options.chunks);
  const given = new Map<number, Uint8Array>();
  const { promise, resolve, reject } = deferred<void>();
  // Whoever waits sees it; nobody may be waiting any more.
  promise.catch(() => undefined);
  let timer: NodeJS.Timeout;
  const stop = (): void => {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  };
  const fail = (error: unknown): void => {
    stop();
    missing.clear();
    reject(error);
  };
  const onAbort = (): void => fail(signal?.reason);
  const onTime = (): void => {
    if (options.isMoving()) {
      timer = setTimeout(onTime, timeoutMs);
      return;
    }
    const cause = options.lastError();
    fail(
      new EstargzError("UNAVAILABLE", `the layer's source gave no bytes for ${timeoutMs} ms; reads work again as soon as it answers`, {
        cause,
      }),
    );
  };
  timer = setTimeout(onTime, timeoutMs);
  signal?.addEventListener("abort", onAbort, { once: true });
  if (signal?.aborted === true) onAbort();
  return {
    missing,
    given,
    done: promise,
    fail,
    settle(chunk, bytes) {
      if (!missing.delete(chunk)) return;
      if (bytes !== undefined) given.set(chunk, bytes);
      if (missing.size > 0) return;
      stop();
      resolve();
    },
  };
}

import { type Clock, EstargzError } from "@estargz/interface";

/** One deadline that is being kept. */
export interface Deadline {
  readonly atMs: number;
  readonly expire: () => void;
}

/** Reason of an abort that nobody sees; spares the making of an error with its stack. */
const DONE = "done";

/**
 * Keeps many deadlines with one timer, which is there only as long as one of them is. Cheap enough for every read.
 */
export class Deadlines {
  readonly #clock: Clock;
  readonly #kept = new Set<Deadline>();
  #timer: { readonly atMs: number; readonly stop: AbortController } | undefined;
  #emptying = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Calls `expire` in `ms` milliseconds unless the deadline is dropped before. */
  keep(ms: number, expire: () => void): Deadline {
    const deadline: Deadline = { atMs: this.#clock.now() + ms, expire };
    this.#kept.add(deadline);
    if (this.#timer === undefined || deadline.atMs < this.#timer.atMs) this.#arm(deadline.atMs);
    return deadline;
  }

  drop(deadline: Deadline): void {
    this.#kept.delete(deadline);
    if (this.#kept.size > 0 || this.#emptying) return;
    // Reads one after the other would set and clear the timer each time.
    this.#emptying = true;
    setImmediate(() => {
      this.#emptying = false;
      if (this.#kept.size > 0) return;
      this.#timer?.stop.abort(DONE);
      this.#timer = undefined;
    });
  }

  #arm(atMs: number): void {
    this.#timer?.stop.abort(DONE);
    const stop = new AbortController();
    const timer = { atMs, stop };
    this.#timer = timer;
    this.#clock.sleep(Math.max(0, atMs - this.#clock.now()), stop.signal).then(
      () => this.#fire(timer),
      () => {},
    );
  }

  #fire(timer: { readonly atMs: number }): void {
    if (this.#timer !== timer) return;
    this.#timer = undefined;
    const now = Math.max(this.#clock.now(), timer.atMs);
    let next = Number.POSITIVE_INFINITY;
    for (const deadline of this.#kept) {
      if (deadline.atMs <= now) {
        this.#kept.delete(deadline);
        deadline.expire();
      } else next = Math.min(next, deadline.atMs);
    }
    if (next < Number.POSITIVE_INFINITY) this.#arm(next);
  }
}

/** The error of a deadline that passed. */
export function deadlineError(what: string, ms: number): EstargzError {
  return new EstargzError("TIMEOUT", `${what} took longer than ${ms / 1000} s`, { details: { deadlineMs: ms } });
}

/**
 * Runs a task with a signal of its own, which follows `signal` and is aborted with a `TIMEOUT` error after `ms`.
 */
export async function withDeadline<T>(
  options: { readonly deadlines: Deadlines; readonly ms: number; readonly signal?: AbortSignal | undefined; readonly what: string },
  task: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const { deadlines, ms, signal, what } = options;
  signal?.throwIfAborted();
  const controller = new AbortController();
  const follow = (): void => controller.abort(signal?.reason);
  signal?.addEventListener("abort", follow, { once: true });
  const deadline = deadlines.keep(ms, () => controller.abort(deadlineError(what, ms)));
  try {
    return await task(controller.signal);
  } finally {
    signal?.removeEventListener("abort", follow);
    deadlines.drop(deadline);
  }
}

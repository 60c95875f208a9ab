import { PRIORITY_ON_DEMAND } from "@estargz/interface";

interface Waiter {
  readonly priority: number;
  readonly start: () => void;
}

/**
 * Bounds the requests in flight to one server. The bound halves when the server says "too many" (429, or 503 with a
 * Retry-After) and grows back by one for each bound's worth of good answers. Waiting requests start by priority, then
 * by age.
 */
export class Limiter {
  readonly #max: number;
  #limit: number;
  #active = 0;
  #successes = 0;
  /** Requests that started before this time belong to the congestion that was already answered for. */
  #epoch = 0;
  readonly #waiting: Waiter[] = [];

  constructor(maxConcurrency: number) {
    this.#max = maxConcurrency;
    this.#limit = maxConcurrency;
  }

  /** Requests that may be in flight now. */
  get limit(): number {
    return this.#limit;
  }

  get active(): number {
    return this.#active;
  }

  /** Waits for a turn; gives a ticket to hand back by {@link release}. */
  acquire(signal: AbortSignal | undefined, priority: number = PRIORITY_ON_DEMAND): number | Promise<number> {
    if (this.#active < this.#limit && this.#waiting.length === 0) {
      this.#active += 1;
      return this.#epoch;
    }
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        const at = this.#waiting.indexOf(waiter);
        if (at >= 0) this.#waiting.splice(at, 1);
        reject(signal?.reason);
      };
      const start = (): void => {
        signal?.removeEventListener("abort", leave);
        resolve(this.#epoch);
      };
      const waiter: Waiter = { priority, start };
      if (signal?.aborted === true) {
        reject(signal.reason);
        return;
      }
      signal?.addEventListener("abort", leave, { once: true });
      let at = this.#waiting.length;
      while (at > 0 && (this.#waiting[at - 1]?.priority ?? priority) < priority) at -= 1;
      this.#waiting.splice(at, 0, waiter);
    });
  }

  /** A request has ended: well, badly in a way that says nothing about load, or because of too much load. */
  release(ticket: number, result: "ok" | "failed" | "overloaded"): void {
    this.#active -= 1;
    if (result === "overloaded" && ticket === this.#epoch) {
      this.#epoch += 1;
      this.#limit = Math.max(1, Math.floor(this.#limit / 2));
      this.#successes = 0;
    } else if (result === "ok" && this.#limit < this.#max) {
      this.#successes += 1;
      if (this.#successes >= this.#limit) {
        this.#successes = 0;
        this.#limit += 1;
      }
    }
    while (this.#active < this.#limit) {
      const next = this.#waiting.shift();
      if (next === undefined) break;
      this.#active += 1;
      next.start();
    }
  }
}

/** Waits for `promise` as long as `signal` lets; leaving does not touch the work behind the promise. */
export function untilAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise<T>((resolve, reject) => {
    const leave = (): void => reject(signal.reason);
    if (signal.aborted) {
      leave();
      return;
    }
    signal.addEventListener("abort", leave, { once: true });
    promise.then(
      (value) => {
        signal.removeEventListener("abort", leave);
        resolve(value);
      },
      (error: unknown) => {
        signal.removeEventListener("abort", leave);
        reject(error);
      },
    );
  });
}

interface Flight<V> {
  readonly result: Promise<V>;
  readonly controller: AbortController;
  waiters: number;
  settled: boolean;
}

/**
 * Runs one task for everybody who asks for the same key at the same time. A caller's abort makes that caller leave;
 * the task is aborted when the last one has left.
 */
export class SingleFlight<K, V> {
  readonly #flights = new Map<K, Flight<V>>();

  async run(key: K, task: (signal: AbortSignal) => Promise<V>, signal?: AbortSignal): Promise<V> {
    signal?.throwIfAborted();
    const flight = this.#flights.get(key) ?? this.#start(key, task);
    flight.waiters += 1;
    try {
      return await untilAborted(flight.result, signal);
    } finally {
      flight.waiters -= 1;
      if (flight.waiters === 0) {
        if (this.#flights.get(key) === flight) this.#flights.delete(key);
        if (!flight.settled) flight.controller.abort();
      }
    }
  }

  #start(key: K, task: (signal: AbortSignal) => Promise<V>): Flight<V> {
    const controller = new AbortController();
    const result = task(controller.signal);
    const flight: Flight<V> = { result, controller, waiters: 0, settled: false };
    this.#flights.set(key, flight);
    const forget = (): void => {
      flight.settled = true;
      if (this.#flights.get(key) === flight) this.#flights.delete(key);
    };
    result.then(forget, forget);
    return flight;
  }
}

import type { Clock } from "@estargz/interface";

const FIRST_REST_MS = 10_000;
const LONGEST_REST_MS = 300_000;

/** Remembers which servers failed lately, so that a dead mirror costs one wait and not one for each read. */
export class HostHealth {
  readonly #clock: Clock;
  readonly #resting = new Map<string, { readonly untilMs: number; readonly failures: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** A server could not be reached: it is tried last for a while, longer each time. */
  failed(key: string): void {
    const failures = (this.#resting.get(key)?.failures ?? 0) + 1;
    const restMs = Math.min(LONGEST_REST_MS, FIRST_REST_MS * 2 ** (failures - 1));
    this.#resting.set(key, { untilMs: this.#clock.now() + restMs, failures });
  }

  /** A server answered. */
  answered(key: string): void {
    if (this.#resting.size > 0) this.#resting.delete(key);
  }

  isResting(key: string): boolean {
    const resting = this.#resting.get(key);
    return resting !== undefined && this.#clock.now() < resting.untilMs;
  }

  /** The same servers, those that rest at the end. */
  order<T>(items: readonly T[], keyOf: (item: T) => string): readonly T[] {
    if (this.#resting.size === 0 || items.length < 2) return items;
    const well = items.filter((item) => !this.isResting(keyOf(item)));
    return well.length === items.length ? items : [...well, ...items.filter((item) => this.isResting(keyOf(item)))];
  }
}

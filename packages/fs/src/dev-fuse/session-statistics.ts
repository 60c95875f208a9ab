import type { DriverStatistics } from "../driver.ts";
import { opcodeNames } from "./protocol.ts";

const KINDS = 64;
/** Bounds of the latency buckets: microseconds, powers of two from 1 to 2^19; the last bucket is for all above. */
const BUCKETS = 21;
const ERRORS = KINDS;
const MISSES = KINDS + 1;
const HISTOGRAMS = KINDS + 8;
const SUMS = HISTOGRAMS + KINDS * BUCKETS;
/** Words of one thread: its own, so that counting needs no lock. */
const WORDS = SUMS + KINDS;

/** Kind of a READ that waited for its bytes, from the worker's question to the answer. No opcode has this number. */
export const MISS_KIND: number = KINDS - 1;
const MISS_NAME = "read_miss";

/** Upper bounds of the buckets, in seconds. */
export const LATENCY_BOUNDS: readonly number[] = Array.from({ length: BUCKETS - 1 }, (_, bucket) => 2 ** bucket / 1_000_000);

/** Size of the counters of one worker, in bytes. */
export const STATISTICS_BYTES: number = WORDS * 8;

/** Times that one kind of request took to be answered. */
export interface LatencyHistogram {
  /** Upper bounds in seconds; the last count is of all above. */
  readonly bounds: readonly number[];
  readonly counts: readonly number[];
  /** Of all times, in seconds. */
  readonly sum: number;
}

/** Counts requests in memory that the main thread reads. */
export class SessionCounters {
  readonly #words: Float64Array;

  constructor(memory: SharedArrayBuffer, worker: number) {
    this.#words = new Float64Array(memory, worker * STATISTICS_BYTES, WORDS);
  }

  /** Counts a request of a kind that was answered after a time. */
  count(opcode: number, milliseconds: number): void {
    const kind = opcode & (KINDS - 1);
    const words = this.#words;
    words[kind] = (words[kind] ?? 0) + 1;
    const bucket = Math.min(BUCKETS - 1, 32 - Math.clz32(milliseconds * 1000));
    const at = HISTOGRAMS + kind * BUCKETS + bucket;
    words[at] = (words[at] ?? 0) + 1;
    words[SUMS + kind] = (words[SUMS + kind] ?? 0) + milliseconds / 1000;
  }

  error(): void {
    this.#words[ERRORS] = (this.#words[ERRORS] ?? 0) + 1;
  }

  miss(): void {
    this.#words[MISSES] = (this.#words[MISSES] ?? 0) + 1;
  }
}

/** Adds up the counters of all workers. */
export function readStatistics(
  memory: SharedArrayBuffer,
): DriverStatistics & { readonly latencies: Readonly<Record<string, LatencyHistogram>> } {
  const requests: Record<string, number> = {};
  const latencies: Record<string, LatencyHistogram> = {};
  const workers = memory.byteLength / STATISTICS_BYTES;
  const all = Array.from({ length: workers }, (_, worker) => new Float64Array(memory, worker * STATISTICS_BYTES, WORDS));
  const sum = (word: number): number => all.reduce((total, words) => total + (words[word] ?? 0), 0);
  for (let kind = 0; kind < KINDS; kind += 1) {
    const count = sum(kind);
    if (count === 0) continue;
    const name = kind === MISS_KIND ? MISS_NAME : (opcodeNames[kind] ?? "other");
    // A miss is counted as the READ that it is already.
    if (kind !== MISS_KIND) requests[name] = (requests[name] ?? 0) + count;
    const counts = Array.from({ length: BUCKETS }, (_, bucket) => sum(HISTOGRAMS + kind * BUCKETS + bucket));
    const known = latencies[name];
    latencies[name] = {
      bounds: LATENCY_BOUNDS,
      counts: counts.map((value, bucket) => value + (known?.counts[bucket] ?? 0)),
      sum: sum(SUMS + kind) + (known?.sum ?? 0),
    };
  }
  return { requests, misses: sum(MISSES), errors: sum(ERRORS), latencies };
}

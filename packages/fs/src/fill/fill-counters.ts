import type { Metrics } from "@estargz/interface";
import { createFillMetrics, type FillMetrics } from "./fill-metrics.ts";
import type { FillStatistics } from "./scheduler-options.ts";
import type { FetchCause } from "./transfer-run.ts";

/** Nothing fetched yet. */
export function noBytes(): Record<FetchCause, number> {
  return { "on-demand": 0, "read-ahead": 0, prefetch: 0, background: 0 };
}

/** Counts what the fill does, for its statistics and its metrics. */
export class FillCounters {
  readonly #metrics: FillMetrics;
  readonly #counts = { misses: 0, copiedChunks: 0, overfetchedBytes: 0 };
  readonly #requests = noBytes();
  readonly #bytes = noBytes();

  constructor(metrics: Metrics | undefined) {
    this.#metrics = createFillMetrics(metrics);
  }

  miss(): void {
    this.#counts.misses++;
    this.#metrics.misses.add(1);
  }

  request(cause: FetchCause, excessBytes: number): void {
    this.#requests[cause]++;
    this.#metrics.requests.add(1, { cause });
    this.#counts.overfetchedBytes += excessBytes;
    this.#metrics.overfetchedBytes.add(excessBytes);
  }

  fetched(cause: FetchCause, bytes: number): void {
    this.#bytes[cause] += bytes;
    this.#metrics.fetchedBytes.add(bytes, { cause });
  }

  copied(): void {
    this.#counts.copiedChunks++;
    this.#metrics.copiedChunks.add(1);
  }

  chunk(outcome: string): void {
    this.#metrics.chunks.add(1, { outcome });
  }

  storeError(code: string): void {
    this.#metrics.storeErrors.add(1, { code });
  }

  statistics(): FillStatistics {
    return { requests: { ...this.#requests }, bytes: { ...this.#bytes }, ...this.#counts };
  }
}

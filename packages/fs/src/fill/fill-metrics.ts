import { type Counter, type Metrics, noMetrics } from "@estargz/interface";

/** Metrics of the fill. Labels are bounded: causes, outcomes and errno names, never layers. */
export interface FillMetrics {
  readonly requests: Counter;
  readonly fetchedBytes: Counter;
  readonly overfetchedBytes: Counter;
  readonly misses: Counter;
  readonly chunks: Counter;
  readonly copiedChunks: Counter;
  readonly storeErrors: Counter;
}

/** Registers them. */
export function createFillMetrics(metrics: Metrics = noMetrics): FillMetrics {
  return {
    requests: metrics.counter({ name: "estargz_fs_requests_total", help: "Requests made of sources, by cause", labelNames: ["cause"] }),
    fetchedBytes: metrics.counter({
      name: "estargz_fs_fetched_bytes_total",
      help: "Compressed bytes received, by cause",
      labelNames: ["cause"],
    }),
    overfetchedBytes: metrics.counter({
      name: "estargz_fs_overfetched_bytes_total",
      help: "Compressed bytes asked for that no missing chunk needed",
    }),
    misses: metrics.counter({ name: "estargz_fs_misses_total", help: "Reads that waited for bytes" }),
    chunks: metrics.counter({
      name: "estargz_fs_chunks_total",
      help: "Chunks decoded, by outcome: stored, bytes (not kept), absent, failed",
      labelNames: ["outcome"],
    }),
    copiedChunks: metrics.counter({ name: "estargz_fs_copied_chunks_total", help: "Chunks copied from another layer instead of fetched" }),
    storeErrors: metrics.counter({
      name: "estargz_fs_store_errors_total",
      help: "Writes of local data that failed, by errno",
      labelNames: ["code"],
    }),
  };
}

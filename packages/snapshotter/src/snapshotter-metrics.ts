import type { Counter, Gauge, Histogram, Metrics } from "@estargz/interface";

/** Metrics of a snapshotter. Labels are bounded: operations, codes, results. */
export interface SnapshotterMetrics {
  readonly operations: Counter;
  readonly operationSeconds: Histogram;
  readonly remoteLayers: Counter;
  readonly fallbacks: Counter;
  readonly snapshots: Gauge;
  readonly restored: Counter;
  /** The reference implementation's histogram of mounts, in milliseconds. */
  readonly referenceMountMilliseconds: Histogram;
}

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
const MILLISECONDS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384];

/** Registers the snapshotter's metrics. */
export function registerMetrics(metrics: Metrics): SnapshotterMetrics {
  return {
    operations: metrics.counter({
      name: "estargz_snapshotter_operations_total",
      help: "Calls by operation and gRPC status",
      labelNames: ["operation", "status"],
    }),
    operationSeconds: metrics.histogram({
      name: "estargz_snapshotter_operation_duration_seconds",
      help: "Duration of calls by operation",
      labelNames: ["operation"],
      buckets: SECONDS,
    }),
    remoteLayers: metrics.counter({ name: "estargz_snapshotter_remote_layers_total", help: "Layers shown lazily" }),
    fallbacks: metrics.counter({
      name: "estargz_snapshotter_fallbacks_total",
      help: "Layers that containerd had to unpack, by the reason's code",
      labelNames: ["code"],
    }),
    snapshots: metrics.gauge({ name: "estargz_snapshotter_snapshots", help: "Snapshots by kind", labelNames: ["kind"] }),
    restored: metrics.counter({
      name: "estargz_snapshotter_restored_layers_total",
      help: "Layers shown again after a restart, by result",
      labelNames: ["result"],
    }),
    referenceMountMilliseconds: metrics.histogram({
      name: "stargz_fs_operation_duration_milliseconds",
      help: "Latency in milliseconds of operations (the reference implementation's name)",
      labelNames: ["operation_type"],
      buckets: MILLISECONDS,
    }),
  };
}

import type { Metrics } from "@estargz/interface";
import { LATENCY_BOUNDS } from "./dev-fuse/session-statistics.ts";
import type { Driver } from "./driver.ts";

/** Shows what a driver counts. Labels are bounded: the kinds of requests, never layers. */
export function observeDriver(driver: Driver, metrics: Metrics | undefined): void {
  metrics?.observedHistogram?.(
    {
      name: "estargz_fs_driver_request_duration_seconds",
      help: "Time from reading a request of the kernel to its answer or, for what is not local, to handing it on; read_miss until the answer",
      labelNames: ["kind"],
      buckets: LATENCY_BOUNDS,
    },
    () => Object.entries(driver.statistics().latencies ?? {}).map(([kind, { counts, sum }]) => ({ labels: { kind }, counts, sum })),
  );
}

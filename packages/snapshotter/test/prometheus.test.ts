import { expect, it } from "vitest";
import { createPrometheusMetrics } from "../src/prometheus.ts";

it("shows a histogram that is kept elsewhere as it is when metrics are read", async () => {
  const metrics = createPrometheusMetrics({ process: false });
  let counts = [1, 0, 2];
  metrics.observedHistogram?.({ name: "reads_seconds", help: "Reads", labelNames: ["kind"], buckets: [0.001, 0.01] }, () => [
    { labels: { kind: "read" }, counts, sum: 1.5 },
  ]);
  expect(await metrics.expose()).toContain('reads_seconds_count{kind="read"} 3');
  counts = [2, 3, 4];
  expect((await metrics.expose()).trim().split("\n")).toEqual([
    "# HELP reads_seconds Reads",
    "# TYPE reads_seconds histogram",
    'reads_seconds_bucket{le="0.001",kind="read"} 2',
    'reads_seconds_bucket{le="0.01",kind="read"} 5',
    'reads_seconds_bucket{le="+Inf",kind="read"} 9',
    'reads_seconds_sum{kind="read"} 1.5',
    'reads_seconds_count{kind="read"} 9',
  ]);
});

import type { Counter, Gauge, Histogram, MetricOptions, Metrics, ObservedHistogram } from "@estargz/interface";
import {
  collectDefaultMetrics,
  type Metric,
  Counter as PromCounter,
  Gauge as PromGauge,
  Histogram as PromHistogram,
  Registry,
} from "prom-client";

/** Metrics that can be scraped. */
export interface PrometheusMetrics extends Metrics {
  /** Content-Type of the exposition. */
  readonly contentType: string;
  /** The exposition: every metric with its present value. */
  expose(): Promise<string>;
}

/** Metrics kept by prom-client, in a registry of their own; with those of the process itself. */
export function createPrometheusMetrics(options: { readonly process?: boolean | undefined } = {}): PrometheusMetrics {
  const registry = new Registry();
  if (options.process !== false) collectDefaultMetrics({ register: registry });
  const known = new Map<string, Counter | Gauge | Histogram>();
  const once = <T extends Counter | Gauge | Histogram>(name: string, make: () => T): T => {
    const existing = known.get(name);
    if (existing !== undefined) return existing as T;
    const made = make();
    known.set(name, made);
    return made;
  };
  const common = (metric: MetricOptions): { name: string; help: string; labelNames: string[]; registers: Registry[] } => ({
    name: metric.name,
    help: metric.help,
    labelNames: [...(metric.labelNames ?? [])],
    registers: [registry],
  });
  return {
    contentType: registry.contentType,
    expose: () => registry.metrics(),
    counter: (metric) =>
      once(metric.name, () => {
        const counter = new PromCounter(common(metric));
        return { add: (value, labels) => counter.inc({ ...labels }, value) };
      }),
    gauge: (metric) =>
      once(metric.name, () => {
        const gauge = new PromGauge(common(metric));
        return { set: (value, labels) => gauge.set({ ...labels }, value) };
      }),
    histogram: (metric) =>
      once(metric.name, () => {
        const buckets = metric.buckets === undefined ? {} : { buckets: [...metric.buckets] };
        const histogram = new PromHistogram({ ...common(metric), ...buckets });
        return { observe: (value, labels) => histogram.observe({ ...labels }, value) };
      }),
    observedHistogram: (metric, read) => {
      const { name, help, buckets } = metric;
      const get = async () => ({ name, help, type: "histogram", values: read().flatMap((series) => expand(name, buckets, series)) });
      // What a registry needs of a metric, whatever its class.
      registry.removeSingleMetric(name);
      registry.registerMetric({ name, get } as unknown as Metric);
    },
  };
}

/** The lines of one series: buckets that include those below, sum, count. */
function expand(
  name: string,
  bounds: readonly number[],
  { labels, counts, sum }: ObservedHistogram,
): { metricName: string; labels: Record<string, string | number>; value: number }[] {
  let below = 0;
  const buckets = [...bounds, "+Inf"].map((le, bucket) => {
    below += counts[bucket] ?? 0;
    return { metricName: `${name}_bucket`, labels: { le, ...labels }, value: below };
  });
  return [
    ...buckets,
    { metricName: `${name}_sum`, labels: { ...labels }, value: sum },
    { metricName: `${name}_count`, labels: { ...labels }, value: below },
  ];
}

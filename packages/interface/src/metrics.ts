/** Labels of a metric. */
export type MetricLabels = Readonly<Record<string, string>>;

/** Counts up. */
export interface Counter {
  add(value: number, labels?: MetricLabels): void;
}
/** Shows a level. */
export interface Gauge {
  set(value: number, labels?: MetricLabels): void;
}
/** Collects observations into buckets. Durations are in seconds. */
export interface Histogram {
  observe(value: number, labels?: MetricLabels): void;
}

/** What a metric is called and means. */
export interface MetricOptions {
  /** Prometheus style: `estargz_registry_read_bytes_total`. */
  readonly name: string;
  readonly help: string;
  readonly labelNames?: readonly string[] | undefined;
  /** Upper bounds of a histogram's buckets. */
  readonly buckets?: readonly number[] | undefined;
}

/** Where metrics are registered, once at construction. Registering a name again gives the same metric. */
export interface Metrics {
  counter(options: MetricOptions): Counter;
  gauge(options: MetricOptions): Gauge;
  histogram(options: MetricOptions): Histogram;
}

const nothing = (): void => {};

/** Metrics that go nowhere: the default everywhere. */
export const noMetrics: Metrics = {
  counter: () => ({ add: nothing }),
  gauge: () => ({ set: nothing }),
  histogram: () => ({ observe: nothing }),
};

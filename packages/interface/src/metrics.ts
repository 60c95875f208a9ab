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

/** One series of a histogram that is kept elsewhere. */
export interface ObservedHistogram {
  readonly labels: MetricLabels;
  /** Observations in each bucket (not added up), and last those above all bounds. Only ever grow. */
  readonly counts: readonly number[];
  /** Sum of all observations. */
  readonly sum: number;
}

/** Where metrics are registered, once at construction. Registering a name again gives the same metric. */
export interface Metrics {
  counter(options: MetricOptions): Counter;
  gauge(options: MetricOptions): Gauge;
  histogram(options: MetricOptions): Histogram;
  /**
   * Registers a histogram that is kept elsewhere, in memory that threads share: `read` is called whenever metrics are read. Optional:
   * without it such a histogram is not shown.
   */
  observedHistogram?(options: MetricOptions & { readonly buckets: readonly number[] }, read: () => readonly ObservedHistogram[]): void;
}

const nothing = (): void => {};

/** Metrics that go nowhere: the default everywhere. */
export const noMetrics: Metrics = {
  counter: () => ({ add: nothing }),
  gauge: () => ({ set: nothing }),
  histogram: () => ({ observe: nothing }),
};

import type { Logger, Metrics } from "@estargz/interface";
import type { DigestTable } from "./digest-table.ts";
import type { LayerFill } from "./layer-fill.ts";
import type { FillSettings } from "./options.ts";
import type { FetchCause } from "./transfer-run.ts";

/** Counts of the fill, by cause, since the start. */
export interface FillStatistics {
  readonly requests: Readonly<Record<FetchCause, number>>;
  readonly bytes: Readonly<Record<FetchCause, number>>;
  /** Reads that had to wait for bytes. */
  readonly misses: number;
  /** Chunks copied from another layer instead of fetched. */
  readonly copiedChunks: number;
  /** Compressed bytes asked for that belong to no chunk that was missing: gaps, and members that are local already. */
  readonly overfetchedBytes: number;
}

/** What the scheduler needs of its owner. */
export interface SchedulerOptions {
  readonly settings: FillSettings;
  readonly logger: Logger;
  readonly digests: DigestTable;
  /** Makes room for bytes, if it may also by data of held layers; false when they cannot be kept. */
  readonly reserve: (bytes: number, mayTake: boolean) => boolean;
  readonly metrics?: Metrics | undefined;
  /** All places of a layer stopped giving bytes, or one gives them again. `code` is the last error's. */
  readonly onSourceState?: ((layer: LayerFill, reachable: boolean, code: string | undefined) => void) | undefined;
  /** The store stopped taking bytes, or takes them again. `code` is the errno's name. */
  readonly onStoreState?: ((usable: boolean, code: string, directory: string) => void) | undefined;
}

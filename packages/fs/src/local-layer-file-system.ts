import type { LayerFileSystem } from "@estargz/interface";
import type { Driver, DriverStatistics } from "./driver.ts";
import type { FillStatistics } from "./fill/scheduler-options.ts";

/** Counts of a layer file system since its start. */
export interface LayerFileSystemStatistics {
  readonly fill: FillStatistics;
  readonly driver: DriverStatistics;
  readonly localBytes: number;
}

/** A {@link LayerFileSystem} with what this package can tell beyond the contract. */
export interface LocalLayerFileSystem extends LayerFileSystem {
  readonly driver: Driver;
  statistics(): LayerFileSystemStatistics;
  /** Chunks of an owner's layer that readers have had to wait for, in that order. Empty for unknown owners. */
  firstUse(owner: string): readonly number[];
}

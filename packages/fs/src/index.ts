/**
 * Image layers as a mounted file system whose bytes are fetched when they are read.
 *
 * @packageDocumentation
 */
export { buildLayerIndex } from "./build-layer-index.ts";
export { dataFilePath } from "./data-file-path.ts";
export type { Driver, DriverLayer, DriverStatistics, DriverStore } from "./driver.ts";
export { Errno, errnoOf } from "./errno.ts";
export { LayerIndex } from "./layer-index.ts";
export { loadLayerIndex } from "./load-layer-index.ts";

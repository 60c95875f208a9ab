/**
 * Image layers as a mounted file system whose bytes are fetched when they are read.
 *
 * @packageDocumentation
 */
export { buildLayerIndex } from "./build-layer-index.ts";
export { dataFilePath } from "./data-file-path.ts";
export type { DevFuseDriver } from "./dev-fuse/dev-fuse-driver.ts";
export { createDevFuseDriver } from "./dev-fuse/dev-fuse-driver.ts";
export type { DevFuseDriverOptions } from "./dev-fuse/dev-fuse-options.ts";
export { isDevFuseUsable } from "./dev-fuse/dev-fuse-options.ts";
export type { Handshake } from "./dev-fuse/handshake.ts";
export type { LatencyHistogram } from "./dev-fuse/session-statistics.ts";
export type { Driver, DriverLayer, DriverStatistics, DriverStore } from "./driver.ts";
export { Errno, errnoOf } from "./errno.ts";
export type { BackgroundPolicy, FillOptions } from "./fill/options.ts";
export type { FillStatistics } from "./fill/scheduler-options.ts";
export type { FetchCause } from "./fill/transfer-run.ts";
export type { FuseNativeDriverOptions } from "./fuse-native/fuse-native-driver.ts";
export { createFuseNativeDriver } from "./fuse-native/fuse-native-driver.ts";
export type { KeeperOptions } from "./keeper/keeper-client.ts";
export type { LayerEventListener, LayerFileSystemEvent, LayerIdentity } from "./layer-events.ts";
export { createLayerFileSystem } from "./layer-file-system.ts";
export type { LayerFileSystemOptions } from "./layer-file-system-options.ts";
export { LayerIndex } from "./layer-index.ts";
export { loadLayerIndex } from "./load-layer-index.ts";
export type { LayerFileSystemStatistics, LocalLayerFileSystem } from "./local-layer-file-system.ts";
export type { MountedLayers, MountLayersOptions } from "./mount-layers.ts";
export { mountLayers } from "./mount-layers.ts";

/**
 * Contract suites: one for each seam, run by every implementation inside vitest.
 *
 * @packageDocumentation
 */

export { codecSuite } from "./codec-suite.ts";
export type { KeychainSuiteOptions, KeychainUnderTest } from "./keychain-suite.ts";
export { keychainSuite } from "./keychain-suite.ts";
export { layerSuite } from "./layer-suite.ts";
export { expectLayerEquals } from "./layers/layer-expectations.ts";
export type { LayerSuiteOptions, LayerSuiteWriteOptions, LayerUnderTest } from "./layers/layer-under-test.ts";
export type { PosixLack, PosixReadSuiteOptions } from "./posix-read-suite.ts";
export { posixReadSuite } from "./posix-read-suite.ts";
export type { ReaderAtSuiteOptions } from "./reader-at-suite.ts";
export { readerAtSuite } from "./reader-at-suite.ts";
export type { SnapshotStoreSuiteOptions, SnapshotStoreUnderTest } from "./snapshot-store-suite.ts";
export { snapshotStoreSuite } from "./snapshot-store-suite.ts";
export type { SnapshotterSuiteOptions } from "./snapshotter-suite.ts";
export { snapshotterSuite } from "./snapshotter-suite.ts";
export type { MountUnderTest, SnapshotInfoUnderTest, SnapshotterUnderTest } from "./snapshotter-under-test.ts";

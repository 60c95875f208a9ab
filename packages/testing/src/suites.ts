/**
 * Contract suites: one for each seam, run by every implementation inside vitest.
 *
 * @packageDocumentation
 */
export type { SnapshotterSuiteOptions } from "./snapshotter-suite.ts";
export { snapshotterSuite } from "./snapshotter-suite.ts";
export type { MountUnderTest, SnapshotInfoUnderTest, SnapshotterUnderTest } from "./snapshotter-under-test.ts";

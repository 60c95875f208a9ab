/**
 * containerd's snapshots service over lazily shown layers.
 *
 * @packageDocumentation
 */
export type { AccessRecord } from "./access-record.ts";
export { recordAccess } from "./access-record.ts";
export type { ConnectSnapshotterOptions } from "./client.ts";
export { connectSnapshotter } from "./client.ts";
export type { FallbackCode } from "./fallback.ts";
export type { GrpcServer } from "./grpc-server.ts";
export { serveGrpc } from "./grpc-server.ts";
export type { OverlaySnapshotter, OverlaySnapshotterOptions } from "./overlay-snapshotter.ts";
export { createOverlaySnapshotter } from "./overlay-snapshotter.ts";
export type { RemoteLayerPolicy } from "./remote-layers.ts";
export type { SnapshotsServiceOptions } from "./service.ts";
export { snapshotsRoutes } from "./service.ts";
export type {
  CallOptions,
  CommitRequest,
  CreateRequest,
  Labels,
  Mount,
  SnapshotInfo,
  SnapshotKind,
  Snapshotter,
  Usage,
} from "./snapshot.ts";
export type { FallbackNote, NewSnapshot, RemoteLayer, SnapshotStore, StoreCommit, StoredSnapshot } from "./snapshot-store.ts";
export type { SqliteStoreOptions } from "./sqlite-store.ts";
export { openSqliteStore } from "./sqlite-store.ts";

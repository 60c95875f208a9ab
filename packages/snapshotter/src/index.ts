/**
 * containerd's snapshots service over lazily shown layers.
 *
 * @packageDocumentation
 */
export type { AccessRecord, RecordAccessOptions } from "./access-record.ts";
export { recordAccess } from "./access-record.ts";
export type { ConnectSnapshotterOptions } from "./client.ts";
export { connectSnapshotter } from "./client.ts";
export type { ConfigFinding, ConfigReport } from "./config.ts";
export { checkConfig, defaultConfigToml, parseConfig } from "./config.ts";
export type { ConfiguredCredentials, ConfiguredMirror, SnapshotterConfig } from "./config-types.ts";
export type { SnapshotterDaemon, StartSnapshotterOptions } from "./daemon.ts";
export { startSnapshotter } from "./daemon.ts";
export type { DiagnoseOptions, Diagnosis, DiagnosisCheck } from "./doctor.ts";
export { diagnoseImage } from "./doctor.ts";
export type { FallbackCode } from "./fallback.ts";
export type { GrpcServer, ServeGrpcOptions } from "./grpc-server.ts";
export { serveGrpc } from "./grpc-server.ts";
export type { CriAuth, CriKeychain, CriKeychainOptions, UndoRemember } from "./keychain/cri-keychain.ts";
export { createCriKeychain } from "./keychain/cri-keychain.ts";
export type { ImageServiceProxy, ImageServiceProxyOptions } from "./keychain/image-service-proxy.ts";
export { imageServiceProxy } from "./keychain/image-service-proxy.ts";
export type { KubeletKeychainOptions } from "./keychain/kubelet-keychain.ts";
export { kubeletKeychain } from "./keychain/kubelet-keychain.ts";
export type { KubernetesKeychainOptions } from "./keychain/kubernetes-keychain.ts";
export { kubernetesKeychain } from "./keychain/kubernetes-keychain.ts";
export type { OverlaySnapshotter, OverlaySnapshotterOptions } from "./overlay-snapshotter.ts";
export { createOverlaySnapshotter } from "./overlay-snapshotter.ts";
export type { PrometheusMetrics } from "./prometheus.ts";
export { createPrometheusMetrics } from "./prometheus.ts";
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
export { notifySystemd } from "./systemd.ts";
export { SnapshotterTracing, type SpanRequest } from "./tracing.ts";

import type { Digest, LayerLocation } from "@estargz/interface";
import type { Labels, SnapshotKind, Usage } from "./snapshot.ts";

/** The lazily shown layer behind a committed snapshot: enough to show it again without network. */
export interface RemoteLayer {
  /** `containerd.io/snapshot.ref`: the chain ID that containerd asked for. */
  readonly ref: string;
  readonly layerDigest: Digest;
  /** `undefined` for a layer that is shown without verification. */
  readonly tocDigest: Digest | undefined;
  /** Every place that the layer was prepared from, in order. */
  readonly locations: readonly LayerLocation[];
  readonly prefetchBytes: number;
}

/** Why containerd had to unpack a layer. */
export interface FallbackNote {
  /** Stable code. */
  readonly code: string;
  readonly message: string;
}

/** A snapshot as it is stored. */
export interface StoredSnapshot {
  /** Positive, unique, never used for two snapshots at a time: the name of its directory and its owner id of a layer. */
  readonly id: number;
  readonly name: string;
  readonly parent: string;
  readonly kind: SnapshotKind;
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
  readonly labels: Labels;
  /** Known for committed snapshots. */
  readonly usage: Usage | undefined;
  readonly remote: RemoteLayer | undefined;
  readonly fallback: FallbackNote | undefined;
}

/** A snapshot to be stored. */
export interface NewSnapshot {
  readonly id: number;
  readonly name: string;
  readonly parent: string;
  readonly kind: SnapshotKind;
  readonly labels: Labels;
  readonly remote?: RemoteLayer | undefined;
  readonly fallback?: FallbackNote | undefined;
}

/** What {@link SnapshotStore.commit} takes. */
export interface StoreCommit {
  readonly key: string;
  readonly name: string;
  readonly labels: Labels;
  readonly usage: Usage;
  readonly parent?: string | undefined;
}

/**
 * Where snapshots are remembered. Each call is one transaction: after a crash it happened wholly or not at all.
 *
 * Calls throw `NOT_FOUND`, `ALREADY_EXISTS`, `FAILED_PRECONDITION` and `INVALID_ARGUMENT` as containerd's own metadata
 * store does, and `CLOSED` after {@link close}.
 */
export interface SnapshotStore {
  /** Stores a snapshot whose parent, if any, is committed. */
  create(snapshot: NewSnapshot): StoredSnapshot;
  /** Turns an active snapshot into a committed one with another name. */
  commit(request: StoreCommit): StoredSnapshot;
  /** Removes a snapshot without children and gives what it was. */
  remove(name: string): StoredSnapshot;
  /** Changes labels; an empty `paths` changes all. */
  update(name: string, labels: Labels, paths: readonly string[]): StoredSnapshot;
  /** Adds places that a remote layer can be read from. */
  setLocations(id: number, locations: readonly LayerLocation[]): void;
  get(name: string): StoredSnapshot;
  /** The snapshot's ancestors, its parent first. */
  ancestors(name: string): readonly StoredSnapshot[];
  /** All snapshots by name. */
  all(): readonly StoredSnapshot[];
  /** The committed remote snapshot of a chain ID on a parent. */
  findRemote(ref: string, parent: string): StoredSnapshot | undefined;
  /** Remote snapshots of a layer. */
  findLayer(layerDigest: Digest): readonly StoredSnapshot[];
  has(name: string): boolean;
  /** Ends. Idempotent. */
  close(): void;
}

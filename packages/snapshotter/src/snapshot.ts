import type { Context } from "@opentelemetry/api";

/**
 * What a snapshot is, in containerd's terms.
 *
 * - `active`: writable, made by `prepare`; becomes `committed` by `commit`, or is removed.
 * - `view`: read-only, made by `view`.
 * - `committed`: immutable; the only kind that can be a parent.
 */
export type SnapshotKind = "active" | "view" | "committed";

/** Labels of a snapshot. */
export type Labels = Readonly<Record<string, string>>;

/** Disk space that a snapshot takes for itself, without its parents. */
export interface Usage {
  readonly bytes: number;
  readonly inodes: number;
}

/** What is known of a snapshot. */
export interface SnapshotInfo {
  /** The key of an active snapshot or view, the name of a committed one. Unique among all of them. */
  readonly name: string;
  /** Name of the parent; `""` without one. */
  readonly parent: string;
  readonly kind: SnapshotKind;
  /** Milliseconds since 1970. */
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
  readonly labels: Labels;
}

/** A mount as containerd wants it described. */
export interface Mount {
  /** `bind` or `overlay`. */
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
}

/** Options that every call takes. */
export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  /** The trace that the call belongs to. Default: the active one. */
  readonly trace?: Context | undefined;
}

/** What `prepare` and `view` take. */
export interface CreateRequest {
  readonly key: string;
  /** Name of a committed snapshot, or `""`. */
  readonly parent: string;
  readonly labels?: Labels | undefined;
}

/** What `commit` takes. */
export interface CommitRequest {
  readonly name: string;
  /** Key of an active snapshot. */
  readonly key: string;
  readonly labels?: Labels | undefined;
  /** Parent of a snapshot that was prepared without one (containerd 2.2's parallel unpacking). */
  readonly parent?: string | undefined;
}

/**
 * containerd's snapshotter. Rejects with `NOT_FOUND`, `ALREADY_EXISTS`, `FAILED_PRECONDITION`, `INVALID_ARGUMENT` and
 * `UNAVAILABLE` where containerd's own snapshotters do.
 */
export interface Snapshotter {
  /**
   * Makes a writable snapshot and says how to mount it.
   *
   * With the label `containerd.io/snapshot.ref` it first tries to show the layer lazily; when it can, the layer is
   * committed under that name and the call rejects with `ALREADY_EXISTS`: containerd then pulls nothing.
   */
  prepare(request: CreateRequest, options?: CallOptions): Promise<readonly Mount[]>;
  /** Makes a read-only snapshot and says how to mount it. */
  view(request: CreateRequest, options?: CallOptions): Promise<readonly Mount[]>;
  /** Says how to mount an active snapshot or a view. */
  mounts(key: string, options?: CallOptions): Promise<readonly Mount[]>;
  /** Makes an active snapshot immutable. Labels are replaced, not inherited. */
  commit(request: CommitRequest, options?: CallOptions): Promise<void>;
  /** Removes a snapshot that has no children. Its files go away later: `cleanup` waits for them. */
  remove(key: string, options?: CallOptions): Promise<void>;
  stat(key: string, options?: CallOptions): Promise<SnapshotInfo>;
  /** Changes labels: all of them, or those that `paths` name (`labels`, `labels.KEY`). */
  update(info: { readonly name: string; readonly labels: Labels }, paths?: readonly string[], options?: CallOptions): Promise<SnapshotInfo>;
  /** All snapshots that any of `filters` matches (containerd's filter syntax), by name. */
  walk(filters?: readonly string[], options?: CallOptions): Promise<readonly SnapshotInfo[]>;
  usage(key: string, options?: CallOptions): Promise<Usage>;
  /** Removes what no snapshot needs any more: directories, attached layers, cached data. */
  cleanup(options?: CallOptions): Promise<void>;
  /** Ends background work. Idempotent. Mounts stay. */
  close(): Promise<void>;
}

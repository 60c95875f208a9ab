import { mkdirSync } from "node:fs";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import type { AttachedLayer, Clock, LayerFileSystem, Logger, Metrics } from "@estargz/interface";
import { EstargzError, isEstargzError, noLogger, noMetrics, systemClock } from "@estargz/interface";
import type { AccessRecord } from "./access-record.ts";
import { diskUsage } from "./disk-usage.ts";
import { DelayedSync } from "./durability.ts";
import { parseFilters } from "./filters.ts";
import { type MappedOwner, mappedOwner } from "./id-mapping.ts";
import { checkLabels, LABEL_FALLBACK, LABEL_REMOTE, LABEL_SNAPSHOT_REF, LABEL_UPPER_DIRECTORY, REMOTE_VALUE } from "./labels.ts";
import { overlayOptions, planMounts } from "./mounts.ts";
import { type RemoteLayerPolicy, RemoteLayers } from "./remote-layers.ts";
import { RemovalQueue } from "./removal-queue.ts";
import { restoreLayers } from "./restore.ts";
import type {
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
import { SnapshotDirectories } from "./snapshot-directories.ts";
import type { FallbackNote, SnapshotStore, StoredSnapshot } from "./snapshot-store.ts";
import { registerMetrics, type SnapshotterMetrics } from "./snapshotter-metrics.ts";
import { openSqliteStore } from "./sqlite-store.ts";
import { SnapshotterTracing } from "./tracing.ts";

/** Options of {@link createOverlaySnapshotter}. */
export interface OverlaySnapshotterOptions {
  /** Folder for the snapshots and their database. On a file system that an overlay's upper directory can be on. */
  readonly root: string;
  /** Shows layers. Closed by its maker, after the snapshotter. */
  readonly layers: LayerFileSystem;
  /** The record that wraps the source `layers` reads from; without it, local layers are shown to every image that names them. */
  readonly access?: AccessRecord | undefined;
  /** Default: an SQLite database in `root`. */
  readonly store?: SnapshotStore | undefined;
  readonly policy?: RemoteLayerPolicy | undefined;
  /** Tells the upper directory's path in a label, as containerd's overlayfs does with `upperdir_label`. Default false. */
  readonly upperDirectoryLabel?: boolean | undefined;
  /** Hands `uidmap`/`gidmap` on to containerd: set it together with `capabilities = ["remap-ids"]` there. Default false. */
  readonly remapIds?: boolean | undefined;
  /**
   * Lets the kernel answer questions for absent extended attributes with EOPNOTSUPP by itself, which saves a request for each file
   * that is looked up through the overlay. containerd's Diff service takes that for an error, so neither commits nor builds
   * work then. Default false.
   */
  readonly fastAbsentXattrs?: boolean | undefined;
  /** More overlay options, like `volatile`. Default none. */
  readonly mountOptions?: readonly string[] | undefined;
  readonly logger?: Logger | undefined;
  readonly metrics?: Metrics | undefined;
  /** Spans of Prepare. Default: those of the provider that is registered with `@opentelemetry/api`, if any. */
  readonly tracing?: SnapshotterTracing | undefined;
  readonly clock?: Clock | undefined;
  /** Called before every write to disk; for tests of crashes. */
  readonly beforeWrite?: ((what: string) => void) | undefined;
}

/** The snapshotter, with what its daemon needs beside containerd's interface. */
export interface OverlaySnapshotter extends Snapshotter {
  /**
   * Shows the layers of stored snapshots again where that is needed, without waiting for any, and removes what no
   * snapshot owns. To be called once, before the first request.
   *
   * @returns Resolves when all of it is done; nobody has to wait for it. Never rejects.
   */
  restore(): Promise<void>;
  /** How many snapshots of each kind there are, and how many are lazy or fell back. */
  counts(): Readonly<Record<SnapshotKind | "remote" | "fallback", number>>;
}

class Overlay implements OverlaySnapshotter {
  readonly #options: OverlaySnapshotterOptions;
  readonly #store: SnapshotStore;
  readonly #directories: SnapshotDirectories;
  readonly #remote: RemoteLayers;
  readonly #removals: RemovalQueue;
  readonly #sync: DelayedSync;
  readonly #logger: Logger;
  readonly #metrics: SnapshotterMetrics;
  readonly #overlayOptions: readonly string[];
  /** Ids of snapshots that are being made: clean-up leaves their directories alone. */
  readonly #making = new Set<number>();
  #nextId = 1;
  #closed = false;

  constructor(options: OverlaySnapshotterOptions) {
    this.#options = options;
    this.#logger = options.logger ?? noLogger;
    this.#metrics = registerMetrics(options.metrics ?? noMetrics);
    mkdirSync(options.root, { recursive: true, mode: 0o700 });
    const path = join(options.root, "metadata.sqlite");
    this.#store = options.store ?? openSqliteStore({ path, clock: options.clock ?? systemClock, beforeWrite: options.beforeWrite });
    this.#sync = new DelayedSync(`${path}-wal`);
    this.#directories = new SnapshotDirectories({ root: options.root, beforeWrite: options.beforeWrite });
    this.#removals = new RemovalQueue(this.#logger);
    this.#overlayOptions = [...overlayOptions(), ...(options.mountOptions ?? [])];
    this.#remote = new RemoteLayers({
      layers: options.layers,
      store: this.#store,
      access: options.access,
      logger: this.#logger,
      metrics: this.#metrics,
      policy: options.policy ?? {},
      reserveId: () => this.#reserveId(),
      tracing: options.tracing ?? new SnapshotterTracing(),
    });
    const owners = options.layers.list().map((layer) => Number(layer.owner));
    const stored = this.#store.all().map((snapshot) => snapshot.id);
    for (const id of [...owners, ...stored, ...this.#directories.present()])
      if (Number.isSafeInteger(id)) this.#nextId = Math.max(this.#nextId, id + 1);
  }

  #reserveId(): number {
    const id = this.#nextId;
    this.#nextId += 1;
    return id;
  }

  async prepare(request: CreateRequest, options: CallOptions = {}): Promise<readonly Mount[]> {
    this.#check(request);
    let fallback: FallbackNote | undefined;
    if (request.labels?.[LABEL_SNAPSHOT_REF] !== undefined) {
      this.#needCommitted(request.parent);
      this.#needFree(request.key);
      fallback = await this.#remote.prepare(request, options);
      if (fallback === undefined) {
        this.#changed();
        throw new EstargzError("ALREADY_EXISTS", `target snapshot ${request.labels[LABEL_SNAPSHOT_REF]} is shown lazily`);
      }
    }
    return await this.#create("active", request, fallback, options.signal);
  }

  async view(request: CreateRequest, options: CallOptions = {}): Promise<readonly Mount[]> {
    this.#check(request);
    return await this.#create("view", request, undefined, options.signal);
  }

  #check(request: CreateRequest): void {
    this.#throwIfClosed();
    if (request.key === "") throw new EstargzError("INVALID_ARGUMENT", "a snapshot needs a key");
    checkLabels(request.labels ?? {});
  }

  #throwIfClosed(): void {
    if (this.#closed) throw new EstargzError("CLOSED", "the snapshotter is closed");
  }

  #needFree(key: string): void {
    if (this.#store.has(key)) throw new EstargzError("ALREADY_EXISTS", `snapshot ${key} already exists`);
  }

  #needCommitted(name: string): StoredSnapshot | undefined {
    if (name === "") return undefined;
    if (!this.#store.has(name)) throw new EstargzError("NOT_FOUND", `parent snapshot ${name} does not exist`);
    const snapshot = this.#store.get(name);
    if (snapshot.kind !== "committed") throw new EstargzError("INVALID_ARGUMENT", `parent ${name} is not a committed snapshot`);
    return snapshot;
  }

  async #create(
    kind: "active" | "view",
    request: CreateRequest,
    fallback: FallbackNote | undefined,
    signal: AbortSignal | undefined,
  ): Promise<readonly Mount[]> {
    const parent = this.#needCommitted(request.parent);
    this.#needFree(request.key);
    const owner = mappedOwner(request.labels ?? {}) ?? (await this.#rootOwner(parent));
    const id = this.#reserveId();
    const labels = request.labels ?? {};
    this.#making.add(id);
    try {
      await this.#directories.create(id, kind === "active", owner);
      // On record last: a call that fails leaves nothing, so that it can come again with the same key.
      const ancestors = parent === undefined ? [] : [parent, ...this.#store.ancestors(parent.name)];
      const mounts = await this.#mountsOf({ id, kind, labels }, ancestors, signal);
      signal?.throwIfAborted();
      this.#store.create({ id, name: request.key, parent: request.parent, kind, labels, fallback });
      this.#changed();
      return mounts;
    } catch (error) {
      this.#removals.add(`snapshot directory ${id}`, () => this.#directories.remove(id));
      throw error;
    } finally {
      this.#making.delete(id);
    }
  }

  /** Who the root directory of a parent's files belongs to. Never touches a mount of ours. */
  async #rootOwner(parent: StoredSnapshot | undefined): Promise<MappedOwner | undefined> {
    if (parent === undefined) return undefined;
    if (parent.remote !== undefined) return this.#options.layers.get(String(parent.id))?.rootOwner ?? { uid: 0, gid: 0 };
    const { uid, gid } = await stat(this.#directories.upper(parent.id));
    return { uid, gid };
  }

  #changed(): void {
    this.#sync.touch();
  }

  async mounts(key: string, options: CallOptions = {}): Promise<readonly Mount[]> {
    this.#throwIfClosed();
    const { id, kind, labels } = this.#store.get(key);
    if (kind === "committed")
      throw new EstargzError("FAILED_PRECONDITION", `snapshot ${key} is committed: only active snapshots and views have mounts`);
    return await this.#mountsOf({ id, kind, labels }, this.#store.ancestors(key), options.signal);
  }

  async #mountsOf(
    { id, kind, labels }: { readonly id: number; readonly kind: "active" | "view"; readonly labels: Labels },
    ancestors: readonly StoredSnapshot[],
    signal: AbortSignal | undefined,
  ): Promise<readonly Mount[]> {
    const lowers = await Promise.all(ancestors.map((ancestor) => this.#pathOf(ancestor, kind, signal)));
    return planMounts({
      kind,
      labels,
      upper: this.#directories.upper(id),
      work: this.#directories.work(id),
      lowers,
      overlayOptions: this.#overlayOptions,
      remapIds: this.#options.remapIds ?? false,
    });
  }

  /** Views are what containerd's Diff service compares with: it needs ENODATA for absent extended attributes. */
  async #pathOf(snapshot: StoredSnapshot, kind: SnapshotKind, signal: AbortSignal | undefined): Promise<string> {
    if (snapshot.remote === undefined) return this.#directories.upper(snapshot.id);
    const attached = this.#options.layers.get(String(snapshot.id));
    if (attached !== undefined) return this.#lowerPath(attached, kind);
    try {
      await this.#remote.attach(snapshot.id, snapshot.remote, { signal });
    } catch (error) {
      if (signal?.aborted === true) throw error;
      const why = error instanceof Error ? error.message : String(error);
      throw new EstargzError("UNAVAILABLE", `layer ${snapshot.remote.layerDigest} of snapshot ${snapshot.name} cannot be shown: ${why}`, {
        cause: error,
      });
    }
    const shown = this.#options.layers.get(String(snapshot.id));
    if (shown === undefined)
      throw new EstargzError("UNAVAILABLE", `layer ${snapshot.remote.layerDigest} went away while it was being shown`);
    return this.#lowerPath(shown, kind);
  }

  async commit(request: CommitRequest, options: CallOptions = {}): Promise<void> {
    this.#throwIfClosed();
    if (request.name === "") throw new EstargzError("INVALID_ARGUMENT", "a committed snapshot needs a name");
    checkLabels(request.labels ?? {});
    if (this.#store.has(request.name)) throw new EstargzError("ALREADY_EXISTS", `snapshot ${request.name} already exists`);
    const snapshot = this.#store.get(request.key);
    if (snapshot.kind !== "active") throw new EstargzError("FAILED_PRECONDITION", `snapshot ${request.key} is not active`);
    const usage = await diskUsage(this.#directories.upper(snapshot.id), options.signal);
    this.#store.commit({ key: request.key, name: request.name, labels: request.labels ?? {}, usage, parent: request.parent });
    this.#changed();
  }

  async remove(key: string): Promise<void> {
    this.#throwIfClosed();
    const removed = this.#store.remove(key);
    this.#changed();
    const { id, remote } = removed;
    if (remote === undefined) this.#removals.add(`snapshot directory ${id}`, () => this.#directories.remove(id));
    else this.#removals.add(`layer of snapshot ${id}`, () => this.#remote.detach(id, remote));
  }

  async stat(key: string): Promise<SnapshotInfo> {
    this.#throwIfClosed();
    return this.#info(this.#store.get(key));
  }

  #info(snapshot: StoredSnapshot): SnapshotInfo {
    const labels: Record<string, string> = { ...snapshot.labels };
    if (snapshot.remote !== undefined) {
      // containerd finds remote snapshots by these two: an update can't take them away.
      labels[LABEL_SNAPSHOT_REF] = snapshot.remote.ref;
      labels[LABEL_REMOTE] = REMOTE_VALUE;
    }
    if (snapshot.fallback !== undefined) labels[LABEL_FALLBACK] = `${snapshot.fallback.code}: ${snapshot.fallback.message}`;
    if (this.#options.upperDirectoryLabel === true && snapshot.remote === undefined) {
      labels[LABEL_UPPER_DIRECTORY] = this.#directories.upper(snapshot.id);
    }
    const { name, parent, kind, createdAtMs, updatedAtMs } = snapshot;
    return { name, parent, kind, createdAtMs, updatedAtMs, labels };
  }

  async update(info: { readonly name: string; readonly labels: Labels }, paths: readonly string[] = []): Promise<SnapshotInfo> {
    this.#throwIfClosed();
    checkLabels(info.labels);
    const updated = this.#store.update(info.name, info.labels, paths);
    this.#changed();
    return this.#info(updated);
  }

  async walk(filters: readonly string[] = []): Promise<readonly SnapshotInfo[]> {
    this.#throwIfClosed();
    const wanted = parseFilters(filters);
    return this.#store
      .all()
      .map((snapshot) => this.#info(snapshot))
      .filter(wanted);
  }

  async usage(key: string, options: CallOptions = {}): Promise<Usage> {
    this.#throwIfClosed();
    const snapshot = this.#store.get(key);
    if (snapshot.remote !== undefined) {
      const coverage = this.#options.layers.coverage(String(snapshot.id));
      return { bytes: coverage?.localBytes ?? 0, inodes: coverage?.inodes ?? 0 };
    }
    if (snapshot.usage !== undefined) return snapshot.usage;
    return await diskUsage(this.#directories.upper(snapshot.id), options.signal);
  }

  async cleanup(options: CallOptions = {}): Promise<void> {
    this.#throwIfClosed();
    await this.#removals.drain();
    await this.#sweep();
    options.signal?.throwIfAborted();
    const freed = await this.#options.layers.collect();
    if (freed > 0) this.#logger.info({ bytes: freed }, "removed local data of layers that no snapshot needs");
  }

  /** Removes directories and layers that no snapshot owns. */
  async #sweep(): Promise<void> {
    const present = await this.#directories.list();
    const owners = this.#options.layers.list().map((layer) => Number(layer.owner));
    const known = new Map(this.#store.all().map((snapshot) => [snapshot.id, snapshot]));
    for (const id of present) {
      if (known.get(id) === undefined && !this.#making.has(id))
        this.#removals.add(`snapshot directory ${id}`, () => this.#directories.remove(id));
    }
    for (const id of owners) {
      if (known.get(id)?.remote === undefined && !this.#remote.isAttaching(id)) {
        this.#removals.add(`layer of snapshot ${id}`, () => this.#options.layers.detach(String(id)));
      }
    }
    await this.#removals.drain();
  }

  async restore(): Promise<void> {
    try {
      await this.#sweep();
      await restoreLayers({
        snapshots: this.#store.all(),
        layers: this.#options.layers,
        attach: (id, remote) => this.#remote.attach(id, remote),
        logger: this.#logger,
        restored: this.#metrics.restored,
      });
    } catch (error) {
      if (!isEstargzError(error, "CLOSED"))
        this.#logger.error({ err: error }, "restoring after a restart failed; layers are shown when they are asked for");
    }
  }

  #lowerPath(layer: AttachedLayer, kind: SnapshotKind): string {
    const isFast = kind !== "view" && this.#options.fastAbsentXattrs === true;
    return isFast ? layer.path : (layer.exactPath ?? layer.path);
  }

  counts(): Readonly<Record<SnapshotKind | "remote" | "fallback", number>> {
    const counts = { active: 0, view: 0, committed: 0, remote: 0, fallback: 0 };
    for (const snapshot of this.#store.all()) {
      counts[snapshot.kind] += 1;
      if (snapshot.remote !== undefined) counts.remote += 1;
      if (snapshot.fallback !== undefined) counts.fallback += 1;
    }
    return counts;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#removals.drain();
    await this.#sync.close();
    this.#store.close();
  }
}

/**
 * Makes a snapshotter that behaves like containerd's overlayfs, and shows layers lazily where it can.
 *
 * @throws `IO_ERROR` when the root or its database can't be used.
 */
export function createOverlaySnapshotter(options: OverlaySnapshotterOptions): OverlaySnapshotter {
  return new Overlay(options);
}

import { DatabaseSync, type StatementSync } from "node:sqlite";
import type { Clock, Digest, LayerLocation } from "@estargz/interface";
import { EstargzError, systemClock } from "@estargz/interface";
import type { Labels, SnapshotKind } from "./snapshot.ts";
import type { FallbackNote, NewSnapshot, RemoteLayer, SnapshotStore, StoreCommit, StoredSnapshot } from "./snapshot-store.ts";

/** Options of {@link openSqliteStore}. */
export interface SqliteStoreOptions {
  /** Path of the database, or `:memory:`. */
  readonly path: string;
  readonly clock?: Clock | undefined;
  /** Called before every write statement and before every commit; what it throws undoes the transaction. For tests of crashes. */
  readonly beforeWrite?: ((what: string) => void) | undefined;
}

const SCHEMA_VERSION = 1;

const SCHEMA = `
CREATE TABLE snapshots (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  parent INTEGER REFERENCES snapshots (id),
  kind TEXT NOT NULL CHECK (kind IN ('active', 'view', 'committed')),
  created_ms INTEGER NOT NULL,
  updated_ms INTEGER NOT NULL,
  labels TEXT NOT NULL,
  bytes INTEGER,
  inodes INTEGER,
  remote_ref TEXT,
  layer_digest TEXT,
  toc_digest TEXT,
  locations TEXT,
  prefetch_bytes INTEGER,
  fallback_code TEXT,
  fallback_message TEXT
) STRICT;
CREATE INDEX snapshots_parent ON snapshots (parent);
CREATE UNIQUE INDEX snapshots_remote ON snapshots (remote_ref, ifnull(parent, 0)) WHERE remote_ref IS NOT NULL;
CREATE INDEX snapshots_layer ON snapshots (layer_digest) WHERE layer_digest IS NOT NULL;
PRAGMA user_version = ${SCHEMA_VERSION};
`;

const COLUMNS = "s.*, p.name AS parent_name FROM snapshots s LEFT JOIN snapshots p ON p.id = s.parent";

interface Row {
  readonly id: number;
  readonly name: string;
  readonly parent: number | null;
  readonly parent_name: string | null;
  readonly kind: SnapshotKind;
  readonly created_ms: number;
  readonly updated_ms: number;
  readonly labels: string;
  readonly bytes: number | null;
  readonly inodes: number | null;
  readonly remote_ref: string | null;
  readonly layer_digest: string | null;
  readonly toc_digest: string | null;
  readonly locations: string | null;
  readonly prefetch_bytes: number | null;
  readonly fallback_code: string | null;
  readonly fallback_message: string | null;
}

function remoteOf(row: Row): RemoteLayer | undefined {
  if (row.remote_ref === null || row.layer_digest === null) return undefined;
  return {
    ref: row.remote_ref,
    layerDigest: row.layer_digest as Digest,
    tocDigest: (row.toc_digest as Digest | null) ?? undefined,
    locations: JSON.parse(row.locations ?? "[]") as LayerLocation[],
    prefetchBytes: row.prefetch_bytes ?? 0,
  };
}

function fallbackOf(row: Row): FallbackNote | undefined {
  return row.fallback_code === null ? undefined : { code: row.fallback_code, message: row.fallback_message ?? "" };
}

function toSnapshot(row: Row): StoredSnapshot {
  return {
    id: row.id,
    name: row.name,
    parent: row.parent_name ?? "",
    kind: row.kind,
    createdAtMs: row.created_ms,
    updatedAtMs: row.updated_ms,
    labels: JSON.parse(row.labels) as Labels,
    usage: row.bytes === null ? undefined : { bytes: row.bytes, inodes: row.inodes ?? 0 },
    remote: remoteOf(row),
    fallback: fallbackOf(row),
  };
}

function notFound(name: string): EstargzError {
  return new EstargzError("NOT_FOUND", `snapshot ${name} does not exist`);
}

/** The labels after an update of `paths`. */
function updatedLabels(name: string, current: Labels, wanted: Labels, paths: readonly string[]): Labels {
  if (paths.length === 0) return withoutEmpty(wanted);
  let labels: Record<string, string> = { ...current };
  for (const path of paths) {
    if (path === "labels") labels = { ...wanted };
    else if (path.startsWith("labels.")) labels[path.slice("labels.".length)] = wanted[path.slice("labels.".length)] ?? "";
    else
      throw new EstargzError("INVALID_ARGUMENT", `cannot update field ${JSON.stringify(path)} of snapshot ${name}: only labels can change`);
  }
  return withoutEmpty(labels);
}

/** An empty value removes a label, as in containerd. */
function withoutEmpty(labels: Labels): Labels {
  return Object.fromEntries(Object.entries(labels).filter(([, value]) => value !== ""));
}

const SQLITE_FULL = 13;

/** The error of a statement: `NO_SPACE` on a full disk, `IO_ERROR` for whatever else SQLite could not do; others as they are. */
function storeError(error: unknown): unknown {
  if (!(error instanceof Error && "errcode" in error && typeof error.errcode === "number")) return error;
  const code = (error.errcode & 0xff) === SQLITE_FULL ? "NO_SPACE" : "IO_ERROR";
  return new EstargzError(code, `the snapshot database cannot be used: ${error.message}`, { cause: error });
}

function guard<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw storeError(error);
  }
}

class SqliteStore implements SnapshotStore {
  readonly #db: DatabaseSync;
  readonly #clock: Clock;
  readonly #beforeWrite: (what: string) => void;
  readonly #statements = new Map<string, StatementSync>();
  #open = true;

  constructor(db: DatabaseSync, options: SqliteStoreOptions) {
    this.#db = db;
    this.#clock = options.clock ?? systemClock;
    this.#beforeWrite = options.beforeWrite ?? (() => {});
  }

  #statement(sql: string): StatementSync {
    if (!this.#open) throw new EstargzError("CLOSED", "the snapshot store is closed");
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#db.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  #get(sql: string, ...values: (string | number | null)[]): Row | undefined {
    return guard(() => this.#statement(sql).get(...values) as Row | undefined);
  }

  #all(sql: string, ...values: (string | number | null)[]): readonly StoredSnapshot[] {
    return guard(() => this.#statement(sql).all(...values) as unknown as Row[]).map(toSnapshot);
  }

  #run(sql: string, ...values: (string | number | null)[]): void {
    guard(() => this.#statement(sql).run(...values));
  }

  #row(name: string): Row | undefined {
    return this.#get(`SELECT ${COLUMNS} WHERE s.name = ?`, name);
  }

  #need(name: string): Row {
    const row = this.#row(name);
    if (row === undefined) throw notFound(name);
    return row;
  }

  #write(sql: string, ...values: (string | number | null)[]): void {
    this.#beforeWrite(sql);
    this.#run(sql, ...values);
  }

  #transaction<T>(body: () => T): T {
    this.#run("BEGIN IMMEDIATE");
    try {
      const result = body();
      this.#beforeWrite("COMMIT");
      this.#run("COMMIT");
      return result;
    } catch (error) {
      // After a full disk and the like SQLite has rolled back by itself.
      if (this.#db.isTransaction) this.#run("ROLLBACK");
      throw error;
    }
  }

  #parentId(parent: string): number | null {
    if (parent === "") return null;
    const row = this.#row(parent);
    if (row === undefined) throw new EstargzError("NOT_FOUND", `parent snapshot ${parent} does not exist`);
    if (row.kind !== "committed") throw new EstargzError("INVALID_ARGUMENT", `parent ${parent} is not a committed snapshot`);
    return row.id;
  }

  create(snapshot: NewSnapshot): StoredSnapshot {
    const { remote, fallback } = snapshot;
    return this.#transaction(() => {
      const parent = this.#parentId(snapshot.parent);
      if (this.#row(snapshot.name) !== undefined) throw new EstargzError("ALREADY_EXISTS", `snapshot ${snapshot.name} already exists`);
      if (remote !== undefined && this.findRemote(remote.ref, snapshot.parent) !== undefined) {
        throw new EstargzError("ALREADY_EXISTS", `a remote snapshot of ${remote.ref} already exists`);
      }
      const now = this.#clock.now();
      this.#write(
        `INSERT INTO snapshots (id, name, parent, kind, created_ms, updated_ms, labels, bytes, inodes,
           remote_ref, layer_digest, toc_digest, locations, prefetch_bytes, fallback_code, fallback_message)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        snapshot.id,
        snapshot.name,
        parent,
        snapshot.kind,
        now,
        now,
        JSON.stringify(snapshot.labels),
        remote === undefined ? null : 0,
        remote === undefined ? null : 0,
        remote?.ref ?? null,
        remote?.layerDigest ?? null,
        remote?.tocDigest ?? null,
        remote === undefined ? null : JSON.stringify(remote.locations),
        remote?.prefetchBytes ?? null,
        fallback?.code ?? null,
        fallback?.message ?? null,
      );
      return toSnapshot(this.#need(snapshot.name));
    });
  }

  commit(request: StoreCommit): StoredSnapshot {
    return this.#transaction(() => {
      if (this.#row(request.name) !== undefined) throw new EstargzError("ALREADY_EXISTS", `snapshot ${request.name} already exists`);
      const row = this.#need(request.key);
      if (row.kind !== "active") throw new EstargzError("FAILED_PRECONDITION", `snapshot ${request.key} is not active`);
      let parent = row.parent;
      if (request.parent !== undefined && request.parent !== "" && request.parent !== row.parent_name) {
        if (row.parent !== null) throw new EstargzError("INVALID_ARGUMENT", `snapshot ${request.key} was prepared on another parent`);
        parent = this.#parentId(request.parent);
      }
      const now = this.#clock.now();
      this.#write(
        `UPDATE snapshots SET name = ?, parent = ?, kind = 'committed', created_ms = ?, updated_ms = ?, labels = ?, bytes = ?, inodes = ?
         WHERE id = ?`,
        request.name,
        parent,
        now,
        now,
        JSON.stringify(request.labels),
        request.usage.bytes,
        request.usage.inodes,
        row.id,
      );
      return toSnapshot(this.#need(request.name));
    });
  }

  remove(name: string): StoredSnapshot {
    return this.#transaction(() => {
      const row = this.#need(name);
      if (this.#get("SELECT id FROM snapshots WHERE parent = ? LIMIT 1", row.id) !== undefined) {
        throw new EstargzError("FAILED_PRECONDITION", `cannot remove snapshot ${name}: it has a child`);
      }
      this.#write("DELETE FROM snapshots WHERE id = ?", row.id);
      return toSnapshot(row);
    });
  }

  update(name: string, labels: Labels, paths: readonly string[]): StoredSnapshot {
    return this.#transaction(() => {
      const row = this.#need(name);
      const updated = updatedLabels(name, JSON.parse(row.labels) as Labels, labels, paths);
      const now = this.#clock.now();
      this.#write("UPDATE snapshots SET labels = ?, updated_ms = ? WHERE id = ?", JSON.stringify(updated), now, row.id);
      return toSnapshot(this.#need(name));
    });
  }

  setLocations(id: number, locations: readonly LayerLocation[]): void {
    this.#transaction(() => {
      this.#write("UPDATE snapshots SET locations = ? WHERE id = ? AND remote_ref IS NOT NULL", JSON.stringify(locations), id);
    });
  }

  get(name: string): StoredSnapshot {
    return toSnapshot(this.#need(name));
  }

  has(name: string): boolean {
    return this.#row(name) !== undefined;
  }

  ancestors(name: string): readonly StoredSnapshot[] {
    const row = this.#need(name);
    if (row.parent === null) return [];
    return this.#all(
      `WITH RECURSIVE chain (id, depth) AS (
         SELECT ?, 0 UNION ALL SELECT s.parent, depth + 1 FROM chain JOIN snapshots s ON s.id = chain.id WHERE s.parent IS NOT NULL)
       SELECT ${COLUMNS} JOIN chain ON chain.id = s.id ORDER BY chain.depth`,
      row.parent,
    );
  }

  all(): readonly StoredSnapshot[] {
    return this.#all(`SELECT ${COLUMNS} ORDER BY s.name`);
  }

  findRemote(ref: string, parent: string): StoredSnapshot | undefined {
    const row = this.#get(`SELECT ${COLUMNS} WHERE s.remote_ref = ? AND ifnull(p.name, '') = ?`, ref, parent);
    return row === undefined ? undefined : toSnapshot(row);
  }

  findLayer(layerDigest: Digest): readonly StoredSnapshot[] {
    return this.#all(`SELECT ${COLUMNS} WHERE s.layer_digest = ?`, layerDigest);
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#statements.clear();
    this.#db.close();
  }
}

/**
 * Opens a snapshot store in an SQLite database (`node:sqlite`): a write-ahead log without a sync per transaction, so a
 * killed process loses nothing, and a power cut loses at most the last moments, never consistency.
 *
 * The store's methods throw `NO_SPACE` on a full disk and `IO_ERROR` for whatever else the database could not do; nothing has changed then.
 *
 * @throws `IO_ERROR` when the file can't be opened, `NO_SPACE`, `UNSUPPORTED` when a newer version has written it.
 */
export function openSqliteStore(options: SqliteStoreOptions): SnapshotStore {
  let db: DatabaseSync;
  try {
    db = new DatabaseSync(options.path, { enableForeignKeyConstraints: true });
    db.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA busy_timeout = 5000;");
  } catch (error) {
    throw new EstargzError("IO_ERROR", `cannot open the snapshot database ${options.path}: is another snapshotter using it?`, {
      cause: error,
    });
  }
  const version = (db.prepare("PRAGMA user_version").get() as { user_version: number }).user_version;
  if (version > SCHEMA_VERSION) {
    db.close();
    throw new EstargzError(
      "UNSUPPORTED",
      `${options.path} was written by a newer version (schema ${version}, this one knows ${SCHEMA_VERSION})`,
    );
  }
  try {
    if (version === 0) db.exec(`BEGIN; ${SCHEMA} COMMIT;`);
  } catch (error) {
    db.close();
    throw storeError(error);
  }
  return new SqliteStore(db, options);
}

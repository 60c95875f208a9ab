import { closeSync, existsSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { type Digest, digestHex, EstargzError, isDigest, type LayerLocation } from "@estargz/interface";
import { libc } from "../libc.ts";
import type { FileMarks } from "./layer-store.ts";
import { nodeRecordFiles, type RecordFiles } from "./record-files.ts";

const LOCK_EX = 2;
const LOCK_NB = 4;
/** Directory numbers are taken from disk this many at a time. */
const NUMBERS_AT_ONCE = 64;

/** What is kept of a layer beside its data. */
export interface LayerRecord {
  readonly layerDigest: Digest;
  readonly tocDigest: Digest;
  /** Name of its directory in the mount while somebody holds it. */
  readonly number: number | undefined;
  readonly owners: readonly string[];
  readonly locations: readonly LayerLocation[];
  readonly lastUsedMs: number;
}

/** Name of a layer's folder: the digest of its blob and that of its TOC, because neither proves the other. */
export function layerKey(layerDigest: Digest, tocDigest: Digest): string {
  return `${digestHex(layerDigest)}-${digestHex(tocDigest)}`;
}

/** The folder that a layer file system keeps everything in. One process at a time uses it. */
export class StoreDirectory {
  readonly root: string;
  readonly layers: string;
  readonly mounts: string;
  readonly #lock: number | undefined;
  readonly #boot: string;
  readonly #marks: ReadonlyMap<string, FileMarks>;
  #nextNumber: number;
  #reserved: number;

  readonly #files: RecordFiles;

  private constructor(root: string, lock: number | undefined, files: RecordFiles) {
    this.#files = files;
    this.root = root;
    this.layers = join(root, "layers");
    this.mounts = join(root, "mounts");
    this.#lock = lock;
    this.#boot = bootId();
    this.#marks = this.#takeCleanMark();
    this.#nextNumber = readNumber(join(root, "next-number"));
    this.#reserved = this.#nextNumber;
  }

  /**
   * Opens the folder, making it if need be. One on a read-only disk is used as it is.
   *
   * @throws `FAILED_PRECONDITION` when another process uses it, `IO_ERROR` when it cannot be made.
   */
  static async open(root: string, files: RecordFiles = nodeRecordFiles): Promise<StoreDirectory> {
    try {
      await mkdir(join(root, "layers"), { recursive: true, mode: 0o700 });
      await mkdir(join(root, "mounts"), { recursive: true, mode: 0o755 });
    } catch (error) {
      throw new EstargzError("IO_ERROR", `cannot use ${root} for layer data: choose a folder that can be written to`, { cause: error });
    }
    return new StoreDirectory(root, lockFolder(root), files);
  }

  /** Marks of a layer's files at the last stop, if that was clean and the machine has not been restarted since. */
  marks(key: string): FileMarks | undefined {
    return this.#marks.get(key);
  }

  #takeCleanMark(): ReadonlyMap<string, FileMarks> {
    const path = join(this.root, "clean.json");
    try {
      const text = readFileSync(path, "utf8");
      // From now on a stop is unclean until it is not; a mark that stays would call the next one clean, so it is not used.
      this.#files.remove(path);
      const mark: unknown = JSON.parse(text);
      if (typeof mark !== "object" || mark === null || !("boot" in mark) || !("layers" in mark)) return new Map();
      if (mark.boot !== this.#boot || typeof mark.layers !== "object" || mark.layers === null) return new Map();
      return new Map(Object.entries(mark.layers as Record<string, FileMarks>));
    } catch {
      return new Map();
    }
  }

  /** Says that nothing will be written any more. */
  writeCleanMark(layers: ReadonlyMap<string, FileMarks>): void {
    this.#replace(join(this.root, "clean.json"), JSON.stringify({ boot: this.#boot, layers: Object.fromEntries(layers) }));
  }

  /** A number that no layer directory of this folder ever had. */
  takeNumber(): number {
    if (this.#nextNumber >= this.#reserved) {
      try {
        this.#replace(join(this.root, "next-number"), String(this.#nextNumber + NUMBERS_AT_ONCE));
        this.#reserved = this.#nextNumber + NUMBERS_AT_ONCE;
      } catch {
        // A full disk stops nobody: it is tried again with the next number.
      }
    }
    return this.#nextNumber++;
  }

  directory(key: string): string {
    return join(this.layers, key);
  }

  /** Keys of the layers that have a folder; remains of unfinished or unshared ones are removed. */
  async keys(): Promise<string[]> {
    const keys: string[] = [];
    for (const name of await readdir(this.layers)) {
      if (/^(?:[0-9a-f]+-[0-9a-f]+|unverified-\d+)$/u.test(name)) keys.push(name);
      // What cannot be removed from a read-only disk stays there.
      else await rm(join(this.layers, name), { recursive: true, force: true }).catch(() => undefined);
    }
    return keys;
  }

  /** Reads what is kept of a layer; `undefined` if it is not there or damaged. */
  async readRecord(key: string): Promise<LayerRecord | undefined> {
    try {
      return parseRecord(JSON.parse(await readFile(join(this.directory(key), "layer.json"), "utf8")));
    } catch {
      return undefined;
    }
  }

  /** Keeps what is known of a layer. Errors of the disk are the caller's to judge. */
  writeRecord(key: string, record: LayerRecord): void {
    const path = join(this.directory(key), "layer.json");
    this.#files.write(`${path}.new`, JSON.stringify(record));
    this.#files.rename(`${path}.new`, path);
  }

  #replace(path: string, text: string): void {
    mkdirSync(this.root, { recursive: true });
    this.#files.write(`${path}.new`, text);
    this.#files.rename(`${path}.new`, path);
  }

  /** Lets the next process in. */
  close(): void {
    if (this.#lock !== undefined) closeSync(this.#lock);
  }
}

function parseRecord(value: unknown): LayerRecord | undefined {
  const record = value as Partial<LayerRecord> | null;
  if (typeof record !== "object" || record === null) return undefined;
  const { layerDigest, tocDigest, number, owners, locations, lastUsedMs } = record;
  if (!isDigest(layerDigest) || !isDigest(tocDigest) || !Array.isArray(owners) || !Array.isArray(locations)) return undefined;
  return {
    layerDigest,
    tocDigest,
    number: Number.isSafeInteger(number) ? number : undefined,
    owners: owners.map(String),
    locations: locations as LayerLocation[],
    lastUsedMs: Number(lastUsedMs ?? 0),
  };
}

function lockFolder(root: string): number | undefined {
  const { flock } = libc();
  const file = openLock(join(root, "lock"));
  if (flock === undefined || flock(file, LOCK_EX | LOCK_NB) === 0) return file;
  closeSync(file);
  throw new EstargzError("FAILED_PRECONDITION", `another process uses ${root}: stop it, or choose another folder`);
}

function openLock(path: string): number {
  try {
    return openSync(path, "a", 0o600);
  } catch (error) {
    // On a read-only disk a lock that is there can still be taken.
    if (existsSync(path)) return openSync(path, "r");
    throw new EstargzError("IO_ERROR", `cannot make ${path}: choose a folder that can be written to`, { cause: error });
  }
}

function bootId(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return "unknown";
  }
}

function readNumber(path: string): number {
  try {
    const number = Number(readFileSync(path, "utf8"));
    return Number.isSafeInteger(number) && number > 0 ? number : 1;
  } catch {
    return 1;
  }
}

import { closeSync, existsSync, openSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { EstargzError } from "@estargz/interface";
import { dataFilePath } from "../data-file-path.ts";
import type { DriverStore } from "../driver.ts";
import type { LayerIndex } from "../layer-index.ts";
import { mapLayerIndex, openLayerIndex, shareLayerIndex } from "../load-layer-index.ts";
import { bitmapBytes, clearBit, hasBit } from "./bits.ts";
import type { ChunkFilesInit } from "./chunk-files.ts";
import { diskBytes } from "./disk-bytes.ts";
import { type MakeLayerFolder, makeLayerFolder } from "./make-layer-folder.ts";
import { punchHole } from "./punch-hole.ts";
import { nodeStoreFiles } from "./store-files.ts";

/** Default of the option `maxBackingFiles`. */
const MAX_BACKING_FILES = 65_536;

/** State of a layer's files at a clean stop: a file that differs at the next start is not trusted. */
export type FileMarks = Readonly<Record<string, readonly [size: number, mtimeMs: number, inode: number]>>;

/**
 * Local data of one layer: a folder with the packed index, one sparse data file, a backing file for each big file,
 * and a bitmap. All files are made when the folder is, and never again: whoever has one open may go on to read it.
 */
export class LayerStore implements DriverStore {
  /** Number of this layer among those of the process; names it in messages between threads. */
  readonly id: number;
  readonly directory: string;
  readonly index: LayerIndex;
  readonly dataPath: string;
  readonly bitmap: SharedArrayBuffer;
  readonly live: Int32Array<SharedArrayBuffer>;
  readonly stored: Int32Array<SharedArrayBuffer>;
  /** Bytes of local chunks, counted in blocks of 4 KiB. */
  localBytes = 0;
  /** Uncompressed bytes of local chunks. */
  coveredBytes = 0;
  /** Uncompressed bytes of all chunks. */
  readonly totalBytes: number;
  /** Inodes whose backing file was given to the kernel: never evicted while attached. */
  readonly pinned: Set<number> = new Set();
  readonly #inode: number | undefined;
  #closed = false;

  private constructor(id: number, directory: string, index: LayerIndex, stored: SharedArrayBuffer) {
    this.id = id;
    this.directory = directory;
    this.index = index;
    index.hold();
    this.dataPath = join(directory, "data");
    this.bitmap = new SharedArrayBuffer(bitmapBytes(index.chunkCount));
    this.live = new Int32Array(this.bitmap);
    this.stored = new Int32Array(stored);
    let totalBytes = 0;
    for (let chunk = 0; chunk < index.chunkCount; chunk++) {
      if (index.chunkIsVirtual(chunk)) continue;
      totalBytes += index.chunkLength(chunk);
      if (hasBit(this.stored, chunk)) this.count(chunk, 1);
    }
    this.totalBytes = totalBytes;
    this.#inode = inodeOf(directory);
  }

  /**
   * Makes a layer's folder. Never replaces one.
   *
   * @param options.maxBackingFiles - Default 65,536.
   * @param options.make - Makes the folder, perhaps in another thread. Default {@link makeLayerFolder}.
   * @throws `NO_SPACE`, `IO_ERROR`, `LIMIT_EXCEEDED`
   */
  static async create(
    id: number,
    directory: string,
    index: LayerIndex,
    options: { readonly maxBackingFiles?: number | undefined; readonly make?: MakeLayerFolder | undefined } = {},
  ): Promise<LayerStore> {
    const big = bigFiles(index, options.maxBackingFiles ?? MAX_BACKING_FILES);
    await (options.make ?? makeLayerFolder)(directory, index, big);
    const mapped = mapLayerIndex(join(directory, "index"), index);
    return new LayerStore(id, directory, mapped, new SharedArrayBuffer(bitmapBytes(index.chunkCount)));
  }

  /** A layer that cannot have files (read-only or full disk): everything it shows comes from the source each time. */
  static withoutFiles(id: number, directory: string, index: LayerIndex): LayerStore {
    return new LayerStore(id, directory, shareLayerIndex(index), new SharedArrayBuffer(bitmapBytes(index.chunkCount)));
  }

  /**
   * Opens a layer's folder. What its bitmap names is trusted only if `marks` say that nothing changed since a clean
   * stop; else each chunk is hashed before its first use.
   *
   * @returns `undefined` when there is no usable folder.
   */
  static async open(id: number, directory: string, marks: FileMarks | undefined): Promise<LayerStore | undefined> {
    // Most layers are new: that costs no turn of the thread pool.
    if (!existsSync(join(directory, "index"))) return undefined;
    const stored = await (async () => {
      const index = await openLayerIndex(join(directory, "index"));
      const bitmap = await readShared(join(directory, "bitmap")).catch(() => undefined);
      if (bitmap?.byteLength === bitmapBytes(index.chunkCount)) return { index, bitmap };
      index.hold();
      index.release();
      return undefined;
    })().catch(() => undefined);
    if (stored === undefined) return undefined;
    const store = new LayerStore(id, directory, stored.index, stored.bitmap);
    if (marks !== undefined && sameMarks(marks, store.marks())) store.live.set(store.stored);
    return store;
  }

  /** What threads need to read and write this layer. */
  init(): ChunkFilesInit {
    return {
      layer: this.id,
      index: this.index.memory,
      live: this.bitmap,
      stored: this.stored.buffer,
      dataPath: this.dataPath,
      bitmapPath: this.index.verified ? join(this.directory, "bitmap") : undefined,
    };
  }

  isLive(chunk: number): boolean {
    return hasBit(this.live, chunk);
  }

  /** Whether a chunk is on disk from an earlier process and has not been hashed yet. */
  isSuspect(chunk: number): boolean {
    return !hasBit(this.live, chunk) && hasBit(this.stored, chunk);
  }

  /** Adds a chunk to the counts of local bytes, or takes it off with `sign` -1. */
  count(chunk: number, sign: 1 | -1): void {
    const length = this.index.chunkLength(chunk);
    this.coveredBytes += sign * length;
    this.localBytes += sign * diskBytes(this.index, chunk);
  }

  backingPath(inode: number): string | undefined {
    if (!this.index.hasOwnFile(inode)) return undefined;
    const first = this.index.firstChunk(inode);
    for (let chunk = first; chunk < first + this.index.chunksOf(inode); chunk++) if (!this.isLive(chunk)) return undefined;
    this.pinned.add(inode);
    return dataFilePath(this.dataPath, this.index, inode);
  }

  /** Takes chunks out of the bitmap, on disk too. Their bytes stay until {@link LayerStore.free}. */
  unshow(chunks: readonly number[]): void {
    for (const chunk of chunks) {
      if (!hasBit(this.stored, chunk)) continue;
      clearBit(this.live, chunk);
      clearBit(this.stored, chunk);
      this.count(chunk, -1);
    }
    // If that fails, the next process hashes them, and finds them missing.
    this.writeBitmap();
  }

  /**
   * Writes the whole bitmap to disk. Gives false, and leaves the folder alone, if it is not the one that was opened or
   * cannot be written.
   */
  writeBitmap(): boolean {
    if (!this.isIntact()) return false;
    try {
      const file = openSync(join(this.directory, "bitmap"), "r+");
      try {
        writeAll(file, new Uint8Array(this.stored.buffer));
      } finally {
        closeSync(file);
      }
      return true;
    } catch {
      return false;
    }
  }

  /** Gives the disk blocks of chunks back. They must have been out of the bitmap for a while: a reader may be on its way. */
  free(chunks: readonly number[]): void {
    // The layer may have been removed and made again since: then these are others' bytes.
    if (!this.isIntact()) return;
    for (const chunk of chunks) {
      if (hasBit(this.stored, chunk)) continue;
      const inode = this.index.chunkInode(chunk);
      const start = this.index.dataOffset(inode) + this.index.chunkFileOffset(chunk);
      punchHole(dataFilePath(this.dataPath, this.index, inode), start, this.index.chunkLength(chunk));
    }
  }

  /** Whether any chunk on disk has not been hashed since an unclean stop. */
  hasSuspects(): boolean {
    return this.stored.some((word, at) => (word & ~(this.live[at] ?? 0)) !== 0);
  }

  /** Chunks in the order that readers first wanted them, in an earlier time. */
  readFirstUse(): number[] {
    try {
      const bytes = readFileSync(join(this.directory, "first-use"));
      const words = new Uint32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + (bytes.length & ~3)));
      return [...words].filter((chunk) => chunk < this.index.chunkCount);
    } catch {
      return [];
    }
  }

  /** Keeps that order. A longer one that is there stays. */
  writeFirstUse(chunks: ReadonlySet<number>): void {
    if (chunks.size === 0 || !this.index.verified) return;
    try {
      const path = join(this.directory, "first-use");
      if (existsSync(path) && statSync(path).size >= chunks.size * 4) return;
      writeFileSync(path, new Uint8Array(Uint32Array.from(chunks).buffer));
    } catch {
      // Only makes the next start quicker.
    }
  }

  /** Whether this layer's folder is still the one that was opened. */
  isIntact(): boolean {
    return this.#inode !== undefined && inodeOf(this.directory) === this.#inode;
  }

  /** State of the files, for the mark of a clean stop. */
  marks(): FileMarks {
    const marks: Record<string, [number, number, number]> = {};
    const mark = (path: string): void => {
      if (!existsSync(path)) return;
      const { size, mtimeMs, ino } = statSync(path);
      marks[path.slice(this.directory.length + 1)] = [size, mtimeMs, ino];
    };
    mark(this.dataPath);
    mark(join(this.directory, "bitmap"));
    for (let inode = 0; inode < this.index.inodeCount; inode++) {
      if (this.index.hasOwnFile(inode)) mark(dataFilePath(this.dataPath, this.index, inode));
    }
    return marks;
  }

  /** Lets go of the index, for good. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.index.release();
  }

  /** Removes the folder. Gives the bytes it took. Its name is free at once: the layer can be made again meanwhile. */
  remove(): Promise<number> {
    this.close();
    if (!this.isIntact()) return Promise.resolve(0);
    const leaving = `${this.directory}.removed-${this.id}`;
    try {
      renameSync(this.directory, leaving);
    } catch {
      return removeFolder(this.directory);
    }
    return removeFolder(leaving);
  }
}

/** Removes a layer's folder; gives the bytes of disk that it took. */
export async function removeFolder(directory: string): Promise<number> {
  let bytes = 0;
  for (const name of await readdir(directory).catch(() => [])) {
    try {
      bytes += statSync(join(directory, name)).blocks * 512;
    } catch {
      // Gone already.
    }
  }
  await rm(directory, { recursive: true, force: true });
  return bytes;
}

async function readShared(path: string): Promise<SharedArrayBuffer> {
  const bytes = await readFile(path);
  const shared = new SharedArrayBuffer(bytes.length);
  new Uint8Array(shared).set(bytes);
  return shared;
}

function writeAll(file: number, bytes: Uint8Array): void {
  nodeStoreFiles.write(file, bytes, 0);
}

/** Inodes of the files that have a file of their own on disk. */
function bigFiles(index: LayerIndex, limit: number): number[] {
  const inodes: number[] = [];
  for (let inode = 0; inode < index.inodeCount; inode++) if (index.hasOwnFile(inode)) inodes.push(inode);
  if (inodes.length <= limit) return inodes;
  throw new EstargzError(
    "LIMIT_EXCEEDED",
    `the layer has ${inodes.length} files of 4 MiB and more, over the limit of ${limit} (maxBackingFiles): its data is not kept on disk`,
  );
}

function inodeOf(path: string): number | undefined {
  try {
    return statSync(path).ino;
  } catch {
    return undefined;
  }
}

function sameMarks(before: FileMarks, now: FileMarks): boolean {
  return JSON.stringify(before) === JSON.stringify(now);
}

import { hash } from "node:crypto";
import { EstargzError } from "@estargz/interface";
import { dataFilePath } from "../data-file-path.ts";
import { type IndexMemory, LayerIndex } from "../layer-index.ts";
import { clearBit, hasBit, setBit } from "./bits.ts";
import type { OpenFiles } from "./open-files.ts";

/** What a thread needs to read and write a layer's local data. Can be posted to it. */
export interface ChunkFilesInit {
  readonly layer: number;
  readonly index: IndexMemory;
  /** Verified in this process: what drivers show. */
  readonly live: SharedArrayBuffer;
  /** What the bitmap on disk says. */
  readonly stored: SharedArrayBuffer;
  readonly dataPath: string;
  /** Path of the bitmap on disk; `undefined` for layers that are not kept. */
  readonly bitmapPath: string | undefined;
}

const ZEROS = new Uint8Array(1024 * 1024);

/**
 * A layer's data files and bitmap, as one thread reads and writes them. Order of a write: the bytes are verified,
 * written, noted in the bitmap on disk, and only then shown.
 */
export class ChunkFiles {
  readonly index: LayerIndex;
  readonly layer: number;
  readonly live: Int32Array<SharedArrayBuffer>;
  readonly stored: Int32Array<SharedArrayBuffer>;
  readonly #storedBytes: Uint8Array<SharedArrayBuffer>;
  readonly #init: ChunkFilesInit;
  readonly #files: OpenFiles;

  constructor(init: ChunkFilesInit, files: OpenFiles) {
    this.index = LayerIndex.over(init.index);
    this.layer = init.layer;
    this.live = new Int32Array(init.live);
    this.stored = new Int32Array(init.stored);
    this.#storedBytes = new Uint8Array(init.stored);
    this.#init = init;
    this.#files = files;
  }

  /**
   * Compares a chunk's bytes with its digest.
   *
   * @throws `DIGEST_MISMATCH`
   */
  verify(chunk: number, bytes: Uint8Array): void {
    const expected = this.index.chunkDigest(chunk);
    if (expected === undefined) {
      if (!this.index.verified) return;
      throw new EstargzError("DIGEST_MISMATCH", `chunk ${chunk} has no digest in a layer that is to be verified`);
    }
    const actual = hash("sha256", bytes, "buffer");
    if (bytes.length === this.index.chunkLength(chunk) && actual.equals(expected)) return;
    throw new EstargzError(
      "DIGEST_MISMATCH",
      `chunk ${chunk} of the layer does not match its digest: the source sent other bytes than the TOC names`,
      {
        details: {
          chunk,
          offset: this.index.chunkBlobOffset(chunk),
          actual: actual.toString("hex"),
          expected: Buffer.from(expected).toString("hex"),
        },
      },
    );
  }

  /** Writes a chunk's verified bytes and shows them. Throws the file system's error. */
  write(chunk: number, bytes: Uint8Array): void {
    const inode = this.index.chunkInode(chunk);
    const file = this.#file(dataFilePath(this.#init.dataPath, this.index, inode));
    this.#files.calls.write(file, bytes, this.index.dataOffset(inode) + this.index.chunkFileOffset(chunk));
    this.note([chunk]);
  }

  /** Notes in the bitmap on disk that chunks are in the data files, then shows them. */
  note(chunks: readonly number[]): void {
    let low = Number.POSITIVE_INFINITY;
    let high = 0;
    for (const chunk of chunks) {
      setBit(this.stored, chunk);
      low = Math.min(low, chunk >>> 5);
      high = Math.max(high, chunk >>> 5);
    }
    this.#persist(low, high);
    for (const chunk of chunks) setBit(this.live, chunk);
  }

  /** Notes on disk that a chunk is not there (any more). It must not be shown at this time. */
  forget(chunk: number): void {
    clearBit(this.live, chunk);
    clearBit(this.stored, chunk);
    this.#persist(chunk >>> 5, chunk >>> 5);
  }

  #persist(firstWord: number, lastWord: number): void {
    if (this.#init.bitmapPath === undefined || firstWord > lastWord) return;
    // The words are read while the kernel copies them, so of two threads that write the same word the later one has both bits.
    this.#files.calls.write(this.#file(this.#init.bitmapPath), this.#storedBytes.subarray(firstWord * 4, lastWord * 4 + 4), firstWord * 4);
  }

  /** Reads a chunk from the data files; `undefined` when the file does not reach that far. */
  read(chunk: number): Uint8Array | undefined {
    const inode = this.index.chunkInode(chunk);
    const file = this.#file(dataFilePath(this.#init.dataPath, this.index, inode));
    const bytes = new Uint8Array(this.index.chunkLength(chunk));
    const length = this.#files.calls.read(file, bytes, this.index.dataOffset(inode) + this.index.chunkFileOffset(chunk));
    return length === bytes.length ? bytes : undefined;
  }

  /**
   * Hashes a chunk that an earlier process wrote, and shows it if it is what it should be.
   * Otherwise takes it out of the bitmap, and gives false.
   */
  check(chunk: number): boolean {
    if (hasBit(this.live, chunk)) return true;
    if (!hasBit(this.stored, chunk)) return false;
    try {
      const bytes = this.index.chunkDigest(chunk) === undefined ? undefined : this.read(chunk);
      if (bytes !== undefined) {
        this.verify(chunk, bytes);
        setBit(this.live, chunk);
        return true;
      }
    } catch {
      // Unreadable and damaged are the same: it has to be fetched again.
    }
    this.forget(chunk);
    return false;
  }

  /** Shows a run of zeros: written as zeros, so that whatever lay there is gone. */
  writeZeros(chunk: number): void {
    const inode = this.index.chunkInode(chunk);
    const file = this.#file(dataFilePath(this.#init.dataPath, this.index, inode));
    const start = this.index.dataOffset(inode) + this.index.chunkFileOffset(chunk);
    const length = this.index.chunkLength(chunk);
    for (let at = 0; at < length; at += ZEROS.length) {
      this.#files.calls.write(file, ZEROS.subarray(0, Math.min(ZEROS.length, length - at)), start + at);
    }
    this.note([chunk]);
  }

  #file(path: string): number {
    return this.#files.get(this, path);
  }

  /** Closes the files. */
  close(): void {
    this.#files.close(this);
  }
}

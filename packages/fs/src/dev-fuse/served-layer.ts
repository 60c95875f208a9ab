import { dataFilePath } from "../data-file-path.ts";
import { type IndexMemory, LayerIndex } from "../layer-index.ts";
import { Errno, type SystemCalls } from "./system-calls.ts";

/** A layer as it is handed to a worker: memory that threads share, and a path. */
export interface LayerMessage {
  readonly number: number;
  readonly index: IndexMemory;
  readonly bitmap: SharedArrayBuffer;
  readonly dataPath: string;
}

/** Length from which on a read is one of a stream. */
const STREAM_BYTES = 256 * 1024;
/** Longest read that is tried again until the disk has brought it, instead of waiting for it. */
const PATIENT_BYTES = 32 * 1024;
/** Backing files of one layer that a worker keeps open. */
const MAX_OWN_FILES = 64;

/** A layer in a worker: its tree, which of its bytes are local, and the descriptors they are read from. */
export class ServedLayer {
  readonly number: number;
  readonly index: LayerIndex;
  /** Whether its directory is shown; open files of a hidden layer stay readable. */
  shown = true;
  /** Entries handed to the kernel and not forgotten yet. */
  lookups = 0;
  readonly #bitmap: Uint8Array;
  readonly #dataPath: string;
  readonly #systemCalls: SystemCalls;
  readonly #descriptors = new Map<string, number>();

  constructor(message: LayerMessage, systemCalls: SystemCalls) {
    this.number = message.number;
    this.index = LayerIndex.over(message.index);
    this.#bitmap = new Uint8Array(message.bitmap);
    this.#dataPath = message.dataPath;
    this.#systemCalls = systemCalls;
  }

  /** Whether every chunk of a file's range is local. The range lies in the file and isn't empty. */
  isLocal(inode: number, offset: number, length: number): boolean {
    const { index } = this;
    const bitmap = this.#bitmap;
    const end = offset + length;
    const last = index.firstChunk(inode) + index.chunksOf(inode);
    let chunk = index.chunkAt(inode, offset);
    if (chunk < 0) return false;
    for (; chunk < last && index.chunkFileOffset(chunk) < end; chunk += 1) {
      if ((((bitmap[chunk >>> 3] ?? 0) >>> (chunk & 7)) & 1) === 0) return false;
    }
    return true;
  }

  /**
   * Reads local bytes to an address. `absent` when they are not all there after all; `later` when the disk is bringing them, and
   * nothing was waited for.
   *
   * @param beforeWaiting - Called when the disk has to be waited for.
   * @param mayWait - Whether a short read may wait for the disk, too. The first try makes the disk begin.
   */
  read(
    inode: number,
    offset: number,
    length: number,
    address: number,
    beforeWaiting: () => void,
    mayWait: boolean,
  ): "done" | "absent" | "later" {
    const fd = this.#descriptor(inode);
    if (fd < 0) return "absent";
    const place = this.index.dataOffset(inode) + offset;
    let count = this.#systemCalls.preadNow(fd, address, length, place);
    if (count !== length) {
      const inTime = count >= 0 || this.#systemCalls.errno() === Errno.EAGAIN;
      if (!mayWait && inTime && length <= PATIENT_BYTES) return "later";
      // The kernel asks for much at once where it reads ahead: then what follows is wanted next.
      if (length >= STREAM_BYTES) this.#systemCalls.willNeed(fd, place, Math.min(2 * length, this.index.size(inode) - offset));
      if (inTime) beforeWaiting();
      count = this.#systemCalls.pread(fd, address, length, place);
    }
    // A chunk may have been evicted while it was read.
    return count === length && this.isLocal(inode, offset, length) ? "done" : "absent";
  }

  #descriptor(inode: number): number {
    const path = dataFilePath(this.#dataPath, this.index, inode);
    const known = this.#descriptors.get(path);
    if (known !== undefined) return known;
    const fd = this.#systemCalls.open(path, 0);
    if (fd < 0) return -1;
    if (this.#descriptors.size >= MAX_OWN_FILES) {
      const oldest = this.#descriptors.entries().next().value;
      if (oldest !== undefined) {
        this.#descriptors.delete(oldest[0]);
        this.#systemCalls.close(oldest[1]);
      }
    }
    this.#descriptors.set(path, fd);
    return fd;
  }

  /** Lets go of its descriptors. */
  close(): void {
    for (const fd of this.#descriptors.values()) this.#systemCalls.close(fd);
    this.#descriptors.clear();
  }
}

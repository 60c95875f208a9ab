import type { LayerIndex } from "../layer-index.ts";
import { ATTR_OUT_BYTES, ENTRY_OUT_BYTES, FOREVER_SECONDS, MAX_READ_BYTES, OUT_HEADER_BYTES, ROOT_NODE_ID } from "./protocol.ts";

const TWO_32 = 4_294_967_296;
const S_IFDIR = 0o040000;
const DIRENT_BYTES = 24;

/**
 * Writes replies into one buffer that is used again and again. Nothing is allocated. Each method gives the length of
 * the whole reply.
 */
export class ReplyWriter {
  readonly bytes: Uint8Array;
  readonly #words: Uint32Array;
  #end = OUT_HEADER_BYTES;

  constructor() {
    const buffer = new ArrayBuffer(OUT_HEADER_BYTES + MAX_READ_BYTES + 4096);
    this.bytes = new Uint8Array(buffer);
    this.#words = new Uint32Array(buffer);
  }

  /** Begins a reply: its header without length. */
  begin(uniqueLow: number, uniqueHigh: number): void {
    const words = this.#words;
    words[1] = 0;
    words[2] = uniqueLow;
    words[3] = uniqueHigh;
    this.#end = OUT_HEADER_BYTES;
  }

  /** Ends a reply that only has an error, or success without payload (0). */
  status(errno: number): number {
    this.#words[0] = OUT_HEADER_BYTES;
    this.#words[1] = -errno;
    return OUT_HEADER_BYTES;
  }

  /** Ends a reply whose payload of `length` bytes is in place behind the header. */
  payload(length: number): number {
    this.#words[0] = OUT_HEADER_BYTES + length;
    return OUT_HEADER_BYTES + length;
  }

  /** Payload given as bytes. */
  data(bytes: Uint8Array): number {
    this.bytes.set(bytes, OUT_HEADER_BYTES);
    return this.payload(bytes.length);
  }

  /** `fuse_getxattr_out`: a size. */
  size(size: number): number {
    this.#words[4] = size;
    this.#words[5] = 0;
    return this.payload(8);
  }

  /** `fuse_open_out`. */
  open(flags: number, backingId: number): number {
    const words = this.#words;
    words[4] = 0;
    words[5] = 0;
    words[6] = flags;
    words[7] = backingId;
    return this.payload(16);
  }

  /** `fuse_statfs_out` of a file system that is full. */
  statfs(): number {
    const words = this.#words;
    words.fill(0, 4, 24);
    words[14] = 4096;
    words[15] = 255;
    words[16] = 4096;
    return this.payload(80);
  }

  /** Reply to LOOKUP: an inode of a layer, known for ever. */
  entry(index: LayerIndex, high: number, inode: number): number {
    this.#entry(4, index, high, inode);
    return this.payload(ENTRY_OUT_BYTES);
  }

  /** Reply to LOOKUP: there is no such name, and never will be. */
  noEntry(): number {
    const words = this.#words;
    words.fill(0, 4, 4 + ENTRY_OUT_BYTES / 4);
    words[8] = FOREVER_SECONDS;
    return this.payload(ENTRY_OUT_BYTES);
  }

  /** Reply to GETATTR of an inode of a layer. */
  attributes(index: LayerIndex, high: number, inode: number): number {
    const words = this.#words;
    words[4] = FOREVER_SECONDS;
    words[5] = 0;
    words[6] = 0;
    words[7] = 0;
    this.#attr(8, index, high, inode);
    return this.payload(ATTR_OUT_BYTES);
  }

  /** Reply to GETATTR of the connection's root: the same at all times, so that path walks need no request. */
  rootAttributes(): number {
    const words = this.#words;
    words.fill(0, 4, 4 + ATTR_OUT_BYTES / 4);
    words[4] = FOREVER_SECONDS;
    words[8] = ROOT_NODE_ID;
    words[8 + 15] = S_IFDIR | 0o755;
    words[8 + 16] = 2;
    words[8 + 20] = 4096;
    return this.payload(ATTR_OUT_BYTES);
  }

  /** Bytes of a directory listing written so far. */
  get listed(): number {
    return this.#end - OUT_HEADER_BYTES;
  }

  /**
   * Adds a `fuse_dirent` to a listing. False, with nothing added, when it does not fit into `limit` bytes.
   *
   * @param next - Offset of the entry after this one.
   */
  name(limit: number, inodeLow: number, inodeHigh: number, next: number, mode: number, name: Uint8Array): boolean {
    const size = (DIRENT_BYTES + name.length + 7) & ~7;
    if (this.listed + size > limit) return false;
    this.#dirent(inodeLow, inodeHigh, next, mode, name, size);
    return true;
  }

  /** Adds a `fuse_direntplus` without attributes: for `.` and `..`. */
  nameOnly(limit: number, inodeLow: number, inodeHigh: number, next: number, mode: number, name: Uint8Array): boolean {
    const size = (DIRENT_BYTES + name.length + 7) & ~7;
    if (this.listed + ENTRY_OUT_BYTES + size > limit) return false;
    this.#words.fill(0, this.#end / 4, (this.#end + ENTRY_OUT_BYTES) / 4);
    this.#end += ENTRY_OUT_BYTES;
    this.#dirent(inodeLow, inodeHigh, next, mode, name, size);
    return true;
  }

  /** Adds a `fuse_direntplus` with an inode of a layer. */
  namePlus(limit: number, index: LayerIndex, high: number, inode: number, next: number, name: Uint8Array): boolean {
    const size = (DIRENT_BYTES + name.length + 7) & ~7;
    if (this.listed + ENTRY_OUT_BYTES + size > limit) return false;
    this.#entry(this.#end / 4, index, high, inode);
    this.#end += ENTRY_OUT_BYTES;
    this.#dirent(inode + 1, high, next, index.mode(inode), name, size);
    return true;
  }

  #dirent(inodeLow: number, inodeHigh: number, next: number, mode: number, name: Uint8Array, size: number): void {
    const words = this.#words;
    const at = this.#end / 4;
    words[at] = inodeLow;
    words[at + 1] = inodeHigh;
    words[at + 2] = next;
    words[at + 3] = 0;
    words[at + 4] = name.length;
    words[at + 5] = mode >>> 12;
    const nameAt = this.#end + DIRENT_BYTES;
    this.#end += size;
    words[this.#end / 4 - 1] = 0;
    words[this.#end / 4 - 2] = 0;
    this.bytes.set(name, nameAt);
  }

  #entry(at: number, index: LayerIndex, high: number, inode: number): void {
    const words = this.#words;
    words[at] = inode + 1;
    words[at + 1] = high;
    words[at + 2] = 0;
    words[at + 3] = 0;
    words[at + 4] = FOREVER_SECONDS;
    words[at + 5] = 0;
    words[at + 6] = FOREVER_SECONDS;
    words[at + 7] = 0;
    words[at + 8] = 0;
    words[at + 9] = 0;
    this.#attr(at + 10, index, high, inode);
  }

  #attr(at: number, index: LayerIndex, high: number, inode: number): void {
    const words = this.#words;
    const size = index.size(inode);
    const blocks = Math.ceil(size / 512);
    const seconds = index.mtimeSeconds(inode);
    const secondsHigh = Math.floor(seconds / TWO_32);
    const secondsLow = seconds - secondsHigh * TWO_32;
    const nanoseconds = index.mtimeNanoseconds(inode);
    words[at] = inode + 1;
    words[at + 1] = high;
    words[at + 2] = size;
    words[at + 3] = size / TWO_32;
    words[at + 4] = blocks;
    words[at + 5] = blocks / TWO_32;
    words[at + 6] = secondsLow;
    words[at + 7] = secondsHigh;
    words[at + 8] = secondsLow;
    words[at + 9] = secondsHigh;
    words[at + 10] = secondsLow;
    words[at + 11] = secondsHigh;
    words[at + 12] = nanoseconds;
    words[at + 13] = nanoseconds;
    words[at + 14] = nanoseconds;
    words[at + 15] = index.mode(inode);
    words[at + 16] = index.linkCount(inode);
    words[at + 17] = index.uid(inode);
    words[at + 18] = index.gid(inode);
    words[at + 19] = index.rdev(inode);
    words[at + 20] = 4096;
    words[at + 21] = 0;
  }
}

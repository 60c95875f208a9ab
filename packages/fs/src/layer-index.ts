import type { Digest } from "@estargz/interface";
import {
  ChunkFlag,
  HeaderFlag,
  HeaderFloat,
  HeaderWord,
  layout,
  OWN_FILE_BYTES,
  type Sections,
  STATE_DIRECTORY,
  TOC_DIGEST_AT,
} from "./layer-index-layout.ts";
import { type MappedMemory, releaseMapped, restMapped, viewMapped } from "./mapped-memory.ts";

/** Where the bytes of a packed index are: can be posted to other threads, which make a reader over it. */
export type IndexMemory = ArrayBufferLike | MappedMemory;

const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;
const S_IFCHR = 0o020000;
const S_IFBLK = 0o060000;

const stateDirectoryName = Buffer.from(STATE_DIRECTORY);

/**
 * The whole tree of a layer in one packed buffer or mapped file, as a mounted layer shows it: whiteouts are character devices 0/0,
 * opaque directories have overlayfs' xattrs, landmarks and TOC are hidden. Inode 0 is the root; numbers are a function
 * of the TOC alone.
 *
 * Readers are made over its memory in any thread ({@link LayerIndex.over}) and share it without copies. Nothing here
 * allocates but what returns bytes (a view of the buffer, never to be written to). Numbers that are no inode, chunk or
 * position of this layer give `undefined` behaviour: callers check with `inodeCount` what comes from outside.
 */
export class LayerIndex {
  /** The packed bytes, stored on disk as they are. Not to be posted to other threads: {@link LayerIndex.memory} is. */
  readonly buffer: ArrayBufferLike;
  /** The same for other threads: shared memory or a mapped file. */
  readonly memory: IndexMemory;
  /** Number of inodes; the last ones are whiteouts and the state directory with its file. */
  readonly inodeCount: number;
  /** Number of chunks: bits of the bitmap. The last one is the state file's: it is never local. */
  readonly chunkCount: number;
  /** Whether any inode has extended attributes (an opaque marker is one). */
  readonly hasXattrs: boolean;
  /** Whether the TOC was compared with an expected digest. */
  readonly verified: boolean;
  readonly compression: "gzip" | "zstd";
  readonly tocDigest: Digest;
  readonly blobSize: number;
  /** First blob byte after the chunks. */
  readonly payloadEnd: number;
  /** End of the files to prefetch, in the blob; `undefined` without a landmark. */
  readonly prefetchEnd: number | undefined;
  /** Size of the sparse data file, in bytes. */
  readonly dataBytes: number;
  /** Inode of `.stargz-snapshotter`: found by {@link LayerIndex.lookup} in the root, but not listed. */
  readonly stateDirectory: number;
  /** Inode of the file in it: its content changes, so whoever can should tell the kernel to forget its pages after each read. */
  readonly stateFile: number;
  readonly #sections: Sections;
  #holders = 0;

  private constructor(memory: IndexMemory) {
    const buffer = "address" in memory ? viewMapped(memory) : memory;
    this.memory = memory;
    const header = new DataView(buffer);
    const word = (index: number): number => header.getUint32(index * 4, true);
    this.buffer = buffer;
    this.inodeCount = word(HeaderWord.inodes);
    this.chunkCount = word(HeaderWord.chunks);
    const flags = word(HeaderWord.flags);
    this.hasXattrs = (flags & HeaderFlag.hasXattrs) !== 0;
    this.verified = (flags & HeaderFlag.verified) !== 0;
    this.compression = (flags & HeaderFlag.zstd) === 0 ? "gzip" : "zstd";
    this.tocDigest = `sha256:${Buffer.from(buffer, TOC_DIGEST_AT, 32).toString("hex")}` as Digest;
    this.dataBytes = header.getFloat64(HeaderFloat.dataBytes, true);
    this.blobSize = header.getFloat64(HeaderFloat.blobSize, true);
    this.payloadEnd = header.getFloat64(HeaderFloat.payloadEnd, true);
    const prefetchEnd = header.getFloat64(HeaderFloat.prefetchEnd, true);
    this.prefetchEnd = prefetchEnd < 0 ? undefined : prefetchEnd;
    this.stateDirectory = word(HeaderWord.stateDirectory);
    this.stateFile = word(HeaderWord.stateFile);
    this.#sections = layout(buffer, {
      inodes: this.inodeCount,
      names: word(HeaderWord.names),
      chunks: this.chunkCount,
      nameBytes: word(HeaderWord.nameBytes),
      linkBytes: word(HeaderWord.linkBytes),
      xattrBytes: word(HeaderWord.xattrBytes),
    });
  }

  /** Gives a reader over the memory of an index that was built or validated in this process, for use in another thread. */
  static over(memory: IndexMemory): LayerIndex {
    return new LayerIndex(memory);
  }

  /**
   * Says that somebody uses this index until {@link LayerIndex.release}. An index in a mapped file that nobody holds any more
   * has nothing in it. Only the holds of the thread that mapped it count.
   */
  hold(): void {
    this.#holders++;
  }

  /** Ends a {@link LayerIndex.hold}. */
  release(): void {
    this.#holders--;
    if (this.#holders === 0 && "address" in this.memory) releaseMapped(this.memory);
  }

  /** Lets go of the resident pages of a mapped file, when the index will not be used for a while. */
  rest(): void {
    if ("address" in this.memory) restMapped(this.memory);
  }

  /** Type and permission bits, as `st_mode`. */
  mode(inode: number): number {
    return this.#sections.mode[inode] ?? 0;
  }

  uid(inode: number): number {
    return this.#sections.uid[inode] ?? 0;
  }

  gid(inode: number): number {
    return this.#sections.gid[inode] ?? 0;
  }

  /** Size in bytes; of a symlink the length of its target; 0 for directories and devices. */
  size(inode: number): number {
    return this.#sections.size[inode] ?? 0;
  }

  /** Whole seconds of the modification time since 1970; may be negative. */
  mtimeSeconds(inode: number): number {
    return this.#sections.mtimeSeconds[inode] ?? 0;
  }

  /** Nanoseconds after the whole second, 0 to 999,999,999. */
  mtimeNanoseconds(inode: number): number {
    return this.#sections.mtimeNanoseconds[inode] ?? 0;
  }

  linkCount(inode: number): number {
    return this.#sections.linkCount[inode] ?? 0;
  }

  /** Device number of a character or block device, in the kernel's 32-bit encoding; 0 for all else. */
  rdev(inode: number): number {
    const type = this.mode(inode) & S_IFMT;
    return type === S_IFCHR || type === S_IFBLK ? (this.#sections.place[inode] ?? 0) : 0;
  }

  /** The directory an inode was first named in; the root's is the root. */
  parent(inode: number): number {
    return this.#sections.parent[inode] ?? 0;
  }

  isDirectory(inode: number): boolean {
    return (this.mode(inode) & S_IFMT) === S_IFDIR;
  }

  isRegular(inode: number): boolean {
    return (this.mode(inode) & S_IFMT) === S_IFREG;
  }

  isSymlink(inode: number): boolean {
    return (this.mode(inode) & S_IFMT) === S_IFLNK;
  }

  /** Finds a name, given as bytes, in a directory: its inode, or -1. `.` and `..` are not names. */
  lookup(parent: number, name: Uint8Array): number {
    if (!this.isDirectory(parent)) return -1;
    const { first, count, nameInode } = this.#sections;
    let low = first[parent] ?? 0;
    let high = low + (count[parent] ?? 0) - 1;
    while (low <= high) {
      const middle = (low + high) >>> 1;
      const order = this.#compareName(middle, name);
      if (order === 0) return nameInode[middle] ?? -1;
      if (order < 0) low = middle + 1;
      else high = middle - 1;
    }
    return parent === 0 && stateDirectoryName.equals(name) ? this.stateDirectory : -1;
  }

  #compareName(position: number, name: Uint8Array): number {
    const { nameStart, nameBytes } = this.#sections;
    const start = nameStart[position] ?? 0;
    const length = (nameStart[position + 1] ?? 0) - start;
    const common = Math.min(length, name.length);
    for (let index = 0; index < common; index++) {
      const difference = (nameBytes[start + index] ?? 0) - (name[index] ?? 0);
      if (difference !== 0) return difference;
    }
    return length - name.length;
  }

  /** Number of names in a directory, without `.` and `..`; 0 for all else. */
  childCount(inode: number): number {
    return this.isDirectory(inode) ? (this.#sections.count[inode] ?? 0) : 0;
  }

  /** Inode of the name at a position (0 to `childCount - 1`, sorted by bytes). */
  childInode(inode: number, position: number): number {
    return this.#sections.nameInode[(this.#sections.first[inode] ?? 0) + position] ?? 0;
  }

  /** Bytes of the name at a position. */
  childName(inode: number, position: number): Uint8Array {
    const { first, nameStart, nameBytes } = this.#sections;
    const at = (first[inode] ?? 0) + position;
    return nameBytes.subarray(nameStart[at], nameStart[at + 1]);
  }

  /** Target of a symlink, as bytes; empty for all else. */
  link(inode: number): Uint8Array {
    const { first, count, linkBytes } = this.#sections;
    if (!this.isSymlink(inode)) return linkBytes.subarray(0, 0);
    const start = first[inode] ?? 0;
    return linkBytes.subarray(start, start + (count[inode] ?? 0));
  }

  /** Value of an extended attribute, or `undefined`. */
  xattr(inode: number, name: Uint8Array): Uint8Array | undefined {
    let found: Uint8Array | undefined;
    this.#eachXattr(inode, (key, value) => {
      if (Buffer.from(key.buffer, key.byteOffset, key.length).equals(name)) found = value;
    });
    return found;
  }

  /** Names of extended attributes, each ended by a zero byte, as listxattr(2) gives them. */
  xattrNames(inode: number): Uint8Array {
    const names: Uint8Array[] = [];
    this.#eachXattr(inode, (key) => names.push(key, Uint8Array.of(0)));
    return Buffer.concat(names);
  }

  #eachXattr(inode: number, visit: (key: Uint8Array, value: Uint8Array) => void): void {
    const { xattr, xattrBytes } = this.#sections;
    const place = xattr[inode] ?? 0;
    if (place === 0) return;
    const view = new DataView(xattrBytes.buffer, xattrBytes.byteOffset, xattrBytes.byteLength);
    let at = place - 1;
    let left = view.getUint16(at, true);
    at += 2;
    for (; left > 0; left--) {
      const keyEnd = at + 6 + view.getUint16(at, true);
      const valueEnd = keyEnd + view.getUint32(at + 2, true);
      visit(xattrBytes.subarray(at + 6, keyEnd), xattrBytes.subarray(keyEnd, valueEnd));
      at = valueEnd;
    }
  }

  /** Number of a regular file's first chunk. Its chunks are consecutive. */
  firstChunk(inode: number): number {
    return this.#sections.first[inode] ?? 0;
  }

  /** Number of chunks of a regular file; 0 for all else. */
  chunksOf(inode: number): number {
    return this.isRegular(inode) ? (this.#sections.count[inode] ?? 0) : 0;
  }

  /** Number of the chunk that holds a file's byte; -1 past its end or for anything but a regular file. */
  chunkAt(inode: number, offset: number): number {
    const count = this.chunksOf(inode);
    if (count === 0 || offset < 0 || offset >= this.size(inode)) return -1;
    const { first, chunkFileOffset } = this.#sections;
    let low = first[inode] ?? 0;
    let high = low + count - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if ((chunkFileOffset[middle] ?? 0) <= offset) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** Place of a chunk in its file. */
  chunkFileOffset(chunk: number): number {
    return this.#sections.chunkFileOffset[chunk] ?? 0;
  }

  /** Uncompressed length in bytes. */
  chunkLength(chunk: number): number {
    return this.#sections.chunkLength[chunk] ?? 0;
  }

  /** Where its compressed member starts in the blob. */
  chunkBlobOffset(chunk: number): number {
    return this.#sections.chunkBlobOffset[chunk] ?? 0;
  }

  /** Upper bound of its compressed bytes from {@link LayerIndex.chunkBlobOffset} on. */
  chunkSpanLength(chunk: number): number {
    return this.#sections.chunkSpanLength[chunk] ?? 0;
  }

  /** Bytes of output to skip in its member. */
  chunkInnerOffset(chunk: number): number {
    return this.#sections.chunkInnerOffset[chunk] ?? 0;
  }

  /** The regular file a chunk belongs to. */
  chunkInode(chunk: number): number {
    return this.#sections.chunkInode[chunk] ?? 0;
  }

  /** SHA-256 of the uncompressed bytes; `undefined` only in layers that are not verified. */
  chunkDigest(chunk: number): Uint8Array | undefined {
    const { chunkDigest, chunkFlags } = this.#sections;
    return ((chunkFlags[chunk] ?? 0) & ChunkFlag.digest) === 0 ? undefined : chunkDigest.subarray(chunk * 32, chunk * 32 + 32);
  }

  /** Whether a chunk is a run of zeros that takes no bytes in the blob. */
  chunkIsZeros(chunk: number): boolean {
    return ((this.#sections.chunkFlags[chunk] ?? 0) & ChunkFlag.zeros) !== 0;
  }

  /** Whether a chunk is made up at each read (the state file's): never fetched, never local. */
  chunkIsVirtual(chunk: number): boolean {
    return ((this.#sections.chunkFlags[chunk] ?? 0) & ChunkFlag.virtual) !== 0;
  }

  /**
   * Whether a regular file's bytes lie in a backing file of its own (4 MiB and more), so that the kernel can read
   * it by itself once it is wholly local; see `dataFilePath`.
   */
  hasOwnFile(inode: number): boolean {
    return this.isRegular(inode) && this.size(inode) >= OWN_FILE_BYTES;
  }

  /** Place of a regular file in its data file, in bytes, a multiple of 4096; 0 in a backing file of its own. */
  dataOffset(inode: number): number {
    return this.isRegular(inode) ? (this.#sections.place[inode] ?? 0) * 4096 : 0;
  }
}

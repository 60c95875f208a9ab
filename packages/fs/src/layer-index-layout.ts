/** Places in the header of a packed layer index; all numbers little-endian, as every platform of Node has them. */
export const MAGIC = 0x31_49_5a_45; // "EZI1"
export const LAYOUT_VERSION = 1;
export const HEADER_BYTES = 256;

/** 32-bit words of the header, by index. */
export const HeaderWord = {
  magic: 0,
  version: 1,
  inodes: 2,
  names: 3,
  chunks: 4,
  nameBytes: 5,
  linkBytes: 6,
  xattrBytes: 7,
  flags: 8,
  stateDirectory: 9,
  stateFile: 10,
} as const;

/** 64-bit floats of the header, by byte offset. */
export const HeaderFloat = { dataBytes: 64, blobSize: 72, payloadEnd: 80, prefetchEnd: 88 } as const;

/** Digests in the header, by byte offset: of the TOC, and of everything but this field itself. */
export const TOC_DIGEST_AT = 96;
export const CHECKSUM_AT = 224;

/** Bits of the header's flags. */
export const HeaderFlag = { hasXattrs: 1, verified: 2, zstd: 4 } as const;

/** Bits of a chunk's flags. */
export const ChunkFlag = { digest: 1, zeros: 2, virtual: 4 } as const;

/** Files of this size and more have a backing file of their own. */
export const OWN_FILE_BYTES: number = 4 * 1024 * 1024;

/** Size of the file in the state directory: fixed, because the kernel keeps attributes for ever. */
export const STATE_FILE_BYTES = 1024;

/** Name of the state directory in a layer's root, as the reference implementation has it. */
export const STATE_DIRECTORY = ".stargz-snapshotter";

/** Counts that determine where each section lies. */
export interface LayoutCounts {
  readonly inodes: number;
  readonly names: number;
  readonly chunks: number;
  readonly nameBytes: number;
  readonly linkBytes: number;
  readonly xattrBytes: number;
}

/** The sections of a packed index: 56 bytes an inode, 8 a name, 65 a chunk, and the strings. */
export interface Sections {
  readonly size: Float64Array;
  readonly mtimeSeconds: Float64Array;
  readonly chunkFileOffset: Float64Array;
  readonly chunkBlobOffset: Float64Array;
  readonly mtimeNanoseconds: Uint32Array;
  readonly mode: Uint32Array;
  readonly uid: Uint32Array;
  readonly gid: Uint32Array;
  readonly linkCount: Uint32Array;
  /** Device number of devices; place in the data file, in blocks of 4 KiB, of regular files. */
  readonly place: Uint32Array;
  /** First name of a directory, first chunk of a file, first byte of a symlink's target. */
  readonly first: Uint32Array;
  /** Number of names, chunks or bytes. */
  readonly count: Uint32Array;
  /** Place of the xattrs plus one; 0 for none. */
  readonly xattr: Uint32Array;
  readonly parent: Uint32Array;
  /** Where each name starts; one more than there are names. */
  readonly nameStart: Uint32Array;
  readonly nameInode: Uint32Array;
  readonly chunkLength: Uint32Array;
  readonly chunkInnerOffset: Uint32Array;
  readonly chunkSpanLength: Uint32Array;
  readonly chunkInode: Uint32Array;
  readonly chunkDigest: Uint8Array;
  readonly chunkFlags: Uint8Array;
  readonly nameBytes: Uint8Array;
  readonly linkBytes: Uint8Array;
  readonly xattrBytes: Uint8Array;
}

/** Size in bytes of a packed index. */
export function layoutBytes(counts: LayoutCounts): number {
  const { inodes, names, chunks } = counts;
  const fixed = inodes * 56 + (names * 2 + 1) * 4 + chunks * (16 + 16 + 33);
  return HEADER_BYTES + fixed + counts.nameBytes + counts.linkBytes + counts.xattrBytes;
}

/** Lays the sections of an index over its buffer: widest elements first, so that all are aligned. */
export function layout(buffer: ArrayBufferLike, counts: LayoutCounts): Sections {
  const { inodes, names, chunks } = counts;
  let at = HEADER_BYTES;
  const take = (bytes: number): number => {
    const start = at;
    at += bytes;
    return start;
  };
  const floats = (length: number): Float64Array => new Float64Array(buffer, take(length * 8), length);
  const words = (length: number): Uint32Array => new Uint32Array(buffer, take(length * 4), length);
  const bytes = (length: number): Uint8Array => new Uint8Array(buffer, take(length), length);
  return {
    size: floats(inodes),
    mtimeSeconds: floats(inodes),
    chunkFileOffset: floats(chunks),
    chunkBlobOffset: floats(chunks),
    mtimeNanoseconds: words(inodes),
    mode: words(inodes),
    uid: words(inodes),
    gid: words(inodes),
    linkCount: words(inodes),
    place: words(inodes),
    first: words(inodes),
    count: words(inodes),
    xattr: words(inodes),
    parent: words(inodes),
    nameStart: words(names + 1),
    nameInode: words(names),
    chunkLength: words(chunks),
    chunkInnerOffset: words(chunks),
    chunkSpanLength: words(chunks),
    chunkInode: words(chunks),
    chunkDigest: bytes(chunks * 32),
    chunkFlags: bytes(chunks),
    nameBytes: bytes(counts.nameBytes),
    linkBytes: bytes(counts.linkBytes),
    xattrBytes: bytes(counts.xattrBytes),
  };
}

import type { Digest } from "./digest.ts";
import type { ByteRange, ReaderAt, ReadOptions } from "./reader-at.ts";

/** Kinds of entries that a reader of a layer sees. */
export type EntryType = "dir" | "reg" | "symlink" | "char" | "block" | "fifo";

/**
 * One file, directory or other inode of a layer, as a mounted layer shows it. Hard links are resolved: each name
 * of a file leads to the same `LayerEntry` object.
 */
export interface LayerEntry {
  /** Number of this inode in its layer: 0 is the root, dense, the same at every opening of the same TOC. */
  readonly index: number;
  /** The first name of this inode: no leading or trailing slash, `""` for the root. */
  readonly path: string;
  readonly type: EntryType;
  /** Size in bytes; 0 for anything but regular files; the length of the target for symlinks. */
  readonly size: number;
  /** Permission bits with setuid, setgid and sticky bits (0o7777); no type bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Modification time in nanoseconds since 1970. */
  readonly mtimeNs: bigint;
  /** Target of a symlink, else `""`. */
  readonly linkName: string;
  readonly devMajor: number;
  readonly devMinor: number;
  /** Number of names: hard links of a file; 2 + subdirectories of a directory. */
  readonly linkCount: number;
  /** Extended attributes by name. Values are bytes. */
  readonly xattrs: ReadonlyMap<string, Uint8Array>;
  /** Digest of a regular file's whole content as the TOC says, if it does. */
  readonly digest: Digest | undefined;
  /** Pieces of a regular file, in order, without gaps; empty for an empty file. */
  readonly chunks: readonly Chunk[];
}

/** A piece of a regular file that can be fetched and verified on its own. */
export interface Chunk {
  /** Number of this chunk in its layer, dense from 0 in order of (entry index, file offset). */
  readonly index: number;
  /** Index of the entry it belongs to. */
  readonly entry: number;
  /** Place in the file, in bytes. */
  readonly fileOffset: number;
  /** Uncompressed length in bytes; at least 1. */
  readonly length: number;
  /** Where its compressed member or frame starts in the blob. */
  readonly blobOffset: number;
  /** Bytes of output to skip in that member before the chunk starts. */
  readonly innerOffset: number;
  /** Digest of the uncompressed bytes; `undefined` only for `zeros` and in layers opened without verification. */
  readonly digest: Digest | undefined;
  /** A run of zeros that takes no bytes in the blob (zstd:chunked). */
  readonly zeros: boolean;
}

/** A name in a directory. */
export interface DirectoryEntry {
  readonly name: string;
  readonly entry: LayerEntry;
}

/** Levels of {@link Layer.verify}. */
export type VerifyLevel = "toc" | "chunks" | "full";

/** What {@link Layer.verify} proved. */
export interface VerifyReport {
  readonly level: VerifyLevel;
  readonly tocDigest: Digest;
  readonly entries: number;
  readonly chunks: number;
  /** Digest of the whole blob; with level `full` only. */
  readonly blobDigest?: Digest | undefined;
  /** Digest of the uncompressed tar (the layer's DiffID); with level `full` only. */
  readonly diffId?: Digest | undefined;
}

/** An opened layer whose TOC was verified (unless its opener turned that off). */
export interface Layer {
  /** Which dialect the blob is written in. */
  readonly format: "estargz" | "stargz" | "estargz-external-toc" | "zstd:chunked";
  /** Compression of chunks: which {@link Codec} decodes them. */
  readonly compression: "gzip" | "zstd";
  /** Digest of the TOC's exact bytes. */
  readonly tocDigest: Digest;
  /** The TOC's exact bytes as they were hashed: enough to open this layer again without network. Not to be modified. */
  readonly tocBytes: Uint8Array;
  /** Whether `tocDigest` was compared with an expected value, and chunks are checked against their digests. */
  readonly verified: boolean;
  /** Size of the blob in bytes. */
  readonly blobSize: number;
  /** First blob byte after the chunks (where the TOC starts, or the end of the payload). */
  readonly payloadEnd: number;
  /** End, in the blob, of the files to prefetch: the prefetch landmark's place; `undefined` without one. 0 with a no-prefetch landmark. */
  readonly prefetchEnd: number | undefined;
  readonly root: LayerEntry;
  /** All inodes by index. */
  readonly entries: readonly LayerEntry[];
  /** All chunks by index. */
  readonly chunks: readonly Chunk[];
  /** Finds an entry by path (leading slash and `.` allowed); does not follow symlinks. */
  lookup(path: string): LayerEntry | undefined;
  /** Names in a directory, sorted by bytes, without `.` and `..`. Empty for anything but a directory. */
  children(entry: LayerEntry): readonly DirectoryEntry[];
  /**
   * The blob bytes that hold `chunk`: from its member's start to an upper bound of its end (the next member, at most).
   * Length 0 for `zeros` chunks.
   */
  span(chunk: Chunk): ByteRange;
  /**
   * Decompresses and verifies a chunk. Pure; usable with bytes from anywhere.
   *
   * @param bytes - The blob from `span(chunk).offset` on, at least as far as the chunk's compressed bytes reach.
   * @throws `DIGEST_MISMATCH` when the bytes are not what the TOC says, `INVALID_COMPRESSION` for damage.
   */
  decode(bytes: Uint8Array, chunk: Chunk): Uint8Array;
  /** Fetches, decompresses and verifies one chunk. */
  readChunk(chunk: Chunk, options?: ReadOptions): Promise<Uint8Array>;
  /** Reads at most `length` bytes of a regular file from `offset`; shorter only at its end. Every byte verified. */
  readFile(entry: LayerEntry, offset?: number, length?: number, options?: ReadOptions): Promise<Uint8Array>;
  /** Streams a regular file, chunk by chunk, verified. */
  streamFile(entry: LayerEntry, options?: ReadOptions): AsyncIterable<Uint8Array>;
  /** Proves the layer against its digests; see {@link VerifyLevel}. */
  verify(level: VerifyLevel, options?: ReadOptions): Promise<VerifyReport>;
  /** The blob that chunks are read from. */
  readonly blob: ReaderAt;
}

import { createHash } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";
import { EstargzError } from "@estargz/interface";
import { indexChecksum } from "./build-layer-index.ts";
import { LayerIndex } from "./layer-index.ts";
import {
  CHECKSUM_AT,
  HEADER_BYTES,
  HeaderWord,
  LAYOUT_VERSION,
  type LayoutCounts,
  layout,
  layoutBytes,
  MAGIC,
} from "./layer-index-layout.ts";
import { mapFile, releaseMapped } from "./mapped-memory.ts";

/** What is read of a file at a time. */
const READ_BYTES = 256 * 1024;

/** What `first` and `count` of an inode count, by its type. */
const BOUNDS: Readonly<Record<number, (counts: LayoutCounts) => number>> = {
  0o040000: (counts) => counts.names,
  0o100000: (counts) => counts.chunks,
  0o120000: (counts) => counts.linkBytes,
};

/**
 * Takes an index that was stored on disk. Its checksum and its bounds are checked, so that a damaged file
 * gives an error and never a wrong tree.
 *
 * @throws `DIGEST_MISMATCH` when the bytes are not those that were stored.
 */
export function loadLayerIndex(buffer: SharedArrayBuffer): LayerIndex {
  const counts = readCounts(buffer);
  if (!indexChecksum(buffer).equals(new Uint8Array(buffer, CHECKSUM_AT, 32))) throw damaged("its checksum differs");
  checkBounds(buffer, counts);
  return LayerIndex.over(buffer);
}

/**
 * Opens the file of an index: read once to be checked, then mapped, so that it takes memory only where it is used. Where files cannot
 * be mapped it is loaded into shared memory. The file must not be changed or shortened as long as it is used.
 *
 * @throws `DIGEST_MISMATCH` as {@link loadLayerIndex}, or the file system's error.
 */
export async function openLayerIndex(path: string): Promise<LayerIndex> {
  const file = await open(path, "r");
  try {
    const memory = mapFile(path);
    if (memory === undefined) return loadLayerIndex(await readShared(file));
    try {
      // Read, not looked at: a disk that fails gives an error here, and a signal there.
      await checkFile(file);
      const index = LayerIndex.over(memory);
      checkBounds(index.buffer, readCounts(index.buffer));
      return index;
    } catch (error) {
      releaseMapped(memory);
      throw error;
    }
  } finally {
    await file.close();
  }
}

/** An index again, over the file that it was just written to; shared memory where files cannot be mapped. */
export function mapLayerIndex(path: string, index: LayerIndex): LayerIndex {
  const memory = mapFile(path);
  return memory === undefined ? shareLayerIndex(index) : LayerIndex.over(memory);
}

/** A copy of an index in shared memory. */
export function shareLayerIndex(index: LayerIndex): LayerIndex {
  const shared = new SharedArrayBuffer(index.buffer.byteLength);
  new Uint8Array(shared).set(new Uint8Array(index.buffer));
  return LayerIndex.over(shared);
}

async function readShared(file: FileHandle): Promise<SharedArrayBuffer> {
  const bytes = await file.readFile();
  const shared = new SharedArrayBuffer(bytes.length);
  new Uint8Array(shared).set(bytes);
  return shared;
}

/** Compares a file with the checksum in its header. */
async function checkFile(file: FileHandle): Promise<void> {
  const hash = createHash("sha256");
  const part = Buffer.allocUnsafe(READ_BYTES);
  let expected: Buffer | undefined;
  for (;;) {
    const { bytesRead } = await file.read(part, 0, part.length);
    if (bytesRead === 0) break;
    if (expected !== undefined) hash.update(part.subarray(0, bytesRead));
    else if (bytesRead < HEADER_BYTES) throw damaged("it has less than a header");
    else {
      expected = Buffer.from(part.subarray(CHECKSUM_AT, CHECKSUM_AT + 32));
      hash.update(part.subarray(0, CHECKSUM_AT)).update(part.subarray(CHECKSUM_AT + 32, bytesRead));
    }
  }
  if (expected === undefined || !hash.digest().equals(expected)) throw damaged("its checksum differs");
}

/** Reads what an index says of its own sizes. Throws when it cannot be one. */
function readCounts(buffer: ArrayBufferLike): LayoutCounts {
  if (buffer.byteLength < HEADER_BYTES) throw damaged(`it has ${buffer.byteLength} bytes, less than a header`);
  const header = new DataView(buffer);
  const word = (index: number): number => header.getUint32(index * 4, true);
  if (word(HeaderWord.magic) !== MAGIC || word(HeaderWord.version) !== LAYOUT_VERSION) {
    throw damaged("it is of another version");
  }
  const counts = {
    inodes: word(HeaderWord.inodes),
    names: word(HeaderWord.names),
    chunks: word(HeaderWord.chunks),
    nameBytes: word(HeaderWord.nameBytes),
    linkBytes: word(HeaderWord.linkBytes),
    xattrBytes: word(HeaderWord.xattrBytes),
  };
  if (layoutBytes(counts) !== buffer.byteLength) throw damaged(`it has ${buffer.byteLength} bytes instead of ${layoutBytes(counts)}`);
  return counts;
}

/** Compares every reference of an index with its bounds. */
function checkBounds(buffer: ArrayBufferLike, counts: LayoutCounts): void {
  const { mode, first, count, nameInode, chunkInode } = layout(buffer, counts);
  for (let inode = 0; inode < counts.inodes; inode++) {
    const type = (mode[inode] ?? 0) & 0o170000;
    const bound = BOUNDS[type]?.(counts);
    if (bound !== undefined && (count[inode] ?? 0) > 0 && (first[inode] ?? 0) + (count[inode] ?? 0) > bound) {
      throw damaged(`inode ${inode} points outside it`);
    }
  }
  if (nameInode.some((inode) => inode >= counts.inodes) || chunkInode.some((inode) => inode >= counts.inodes)) {
    throw damaged("it names inodes that it does not have");
  }
}

function damaged(why: string): EstargzError {
  return new EstargzError("DIGEST_MISMATCH", `the stored layer index is damaged: ${why}; it has to be built again`);
}

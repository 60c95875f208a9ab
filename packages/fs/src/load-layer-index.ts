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
  if (!indexChecksum(buffer).equals(new Uint8Array(buffer, CHECKSUM_AT, 32))) throw damaged("its checksum differs");
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
  return LayerIndex.over(buffer);
}

function damaged(why: string): EstargzError {
  return new EstargzError("DIGEST_MISMATCH", `the stored layer index is damaged: ${why}; it has to be built again`);
}

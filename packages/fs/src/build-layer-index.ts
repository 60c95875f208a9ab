import { createHash } from "node:crypto";
import { type Chunk, type Digest, digestHex, type EntryType, EstargzError, type Layer, type LayerEntry } from "@estargz/interface";
import { LayerIndex } from "./layer-index.ts";
import {
  CHECKSUM_AT,
  ChunkFlag,
  HeaderFlag,
  HeaderFloat,
  HeaderWord,
  LAYOUT_VERSION,
  layout,
  layoutBytes,
  MAGIC,
  OWN_FILE_BYTES,
  type Sections,
  STATE_DIRECTORY,
  STATE_FILE_BYTES,
  TOC_DIGEST_AT,
} from "./layer-index-layout.ts";

const WHITEOUT_PREFIX = ".wh.";
const OPAQUE_MARKER = ".wh..wh..opq";
const HIDDEN_IN_ROOT = new Set([".prefetch.landmark", ".no.prefetch.landmark", "stargz.index.json", STATE_DIRECTORY]);
const OPAQUE_XATTRS = ["trusted.overlay.opaque", "user.overlay.opaque"];
const TYPE_BITS: Readonly<Record<EntryType, number>> = {
  dir: 0o040000,
  reg: 0o100000,
  symlink: 0o120000,
  char: 0o020000,
  block: 0o060000,
  fifo: 0o010000,
};
const MAX_UINT32 = 0xffff_ffff;

/** A directory as it will be shown. */
interface ShownDirectory {
  readonly inode: number;
  readonly names: { readonly bytes: Buffer; readonly inode: number }[];
  readonly opaque: boolean;
}

/** What is known of a layer before its buffer can be made. */
interface Plan {
  readonly directories: readonly ShownDirectory[];
  readonly opaque: ReadonlySet<number>;
  readonly whiteouts: readonly { readonly parent: number; readonly mtimeNs: bigint }[];
  readonly stateDirectory: number;
  readonly xattrs: XattrTable;
  readonly links: ReadonlyMap<number, Buffer>;
  readonly linkBytes: number;
  readonly nameCount: number;
  readonly nameBytes: number;
}

/**
 * Packs the tree of a layer. Whiteouts (`.wh.x`) become character devices 0/0 named `x`, opaque markers
 * become xattrs of their directory, landmarks and the TOC are left out.
 *
 * @param options - `layerDigest` names the file in the state directory; default is the TOC's digest.
 * @throws `LIMIT_EXCEEDED` for a layer that does not fit the packed form (4 GiB of names, 16 TiB of data, 4 GiB a chunk),
 * `UNSUPPORTED` for chunk digests other than sha256.
 */
export function buildLayerIndex(layer: Layer, options: { readonly layerDigest?: Digest | undefined } = {}): LayerIndex {
  return packLayer(layer, options.layerDigest, (length) => new SharedArrayBuffer(length));
}

/** Packs a layer's tree into a buffer that `allocate` gives, zeroed. */
export function packLayer(layer: Layer, layerDigest: Digest | undefined, allocate: (length: number) => ArrayBufferLike): LayerIndex {
  const plan = planIndex(layer, `${layerDigest ?? layer.tocDigest}.json`);
  const counts = {
    inodes: plan.stateDirectory + 2,
    names: plan.nameCount,
    chunks: layer.chunks.length + 1,
    nameBytes: plan.nameBytes,
    linkBytes: plan.linkBytes,
    xattrBytes: plan.xattrs.bytes,
  };
  for (const [name, value] of Object.entries(counts)) limit(name, value);
  const buffer = allocate(layoutBytes(counts));
  const sections = layout(buffer, counts);
  const dataBytes = writeEntries(layer, plan, sections);
  writeDirectories(plan, sections);
  writeChunks(layer, sections);
  writeWhiteouts(layer, plan, sections);
  writeState(layer, plan, sections);
  plan.xattrs.writeTo(sections.xattrBytes);
  writeHeader(buffer, layer, counts, plan, dataBytes);
  return LayerIndex.over(buffer);
}

function limit(name: string, value: number): void {
  if (value > MAX_UINT32 - 2)
    throw new EstargzError("LIMIT_EXCEEDED", `the layer has ${value} ${name}; an index holds at most ${MAX_UINT32 - 2}`);
}

function planIndex(layer: Layer, stateFileName: string): Plan {
  const entries = layer.entries;
  const whiteouts: { parent: number; mtimeNs: bigint }[] = [];
  const directories: ShownDirectory[] = [];
  const links = new Map<number, Buffer>();
  let linkBytes = 0;
  for (const entry of entries) {
    if (entry.type === "dir") directories.push(showDirectory(layer, entry, entries.length, whiteouts));
    else if (entry.type === "symlink") {
      const target = Buffer.from(entry.linkName);
      links.set(entry.index, target);
      linkBytes += target.length;
    }
  }
  const stateDirectory = entries.length + whiteouts.length;
  directories.push({ inode: stateDirectory, names: [{ bytes: Buffer.from(stateFileName), inode: stateDirectory + 1 }], opaque: false });
  const opaque = new Set(directories.filter((directory) => directory.opaque).map((directory) => directory.inode));
  const xattrs = new XattrTable();
  for (const entry of entries) xattrs.add(entry, opaque.has(entry.index));
  let nameCount = 0;
  let nameBytes = 0;
  for (const directory of directories) {
    nameCount += directory.names.length;
    for (const name of directory.names) nameBytes += name.bytes.length;
  }
  return { directories, opaque, whiteouts, stateDirectory, xattrs, links, linkBytes, nameCount, nameBytes };
}

function showDirectory(
  layer: Layer,
  entry: LayerEntry,
  firstWhiteout: number,
  whiteouts: { parent: number; mtimeNs: bigint }[],
): ShownDirectory {
  const names: { bytes: Buffer; inode: number }[] = [];
  const hidden: { name: string; mtimeNs: bigint }[] = [];
  let opaque = false;
  const children = layer.children(entry);
  for (const child of children) {
    if (child.name === OPAQUE_MARKER) opaque = true;
    else if (child.name.startsWith(WHITEOUT_PREFIX))
      hidden.push({ name: child.name.slice(WHITEOUT_PREFIX.length), mtimeNs: child.entry.mtimeNs });
    else if (entry.index !== 0 || !HIDDEN_IN_ROOT.has(child.name)) names.push({ bytes: Buffer.from(child.name), inode: child.entry.index });
  }
  if (hidden.length > 0) {
    const shown = new Set(children.map((child) => child.name));
    for (const { name, mtimeNs } of hidden) {
      // `.wh.`, `.wh..` and `.wh...` hide nothing that could be there.
      if (name === "" || name === "." || name === ".." || shown.has(name) || name.startsWith(WHITEOUT_PREFIX)) continue;
      names.push({ bytes: Buffer.from(name), inode: firstWhiteout + whiteouts.length });
      whiteouts.push({ parent: entry.index, mtimeNs });
    }
    names.sort((a, b) => Buffer.compare(a.bytes, b.bytes));
  }
  return { inode: entry.index, names, opaque };
}

function writeEntries(layer: Layer, plan: Plan, sections: Sections): number {
  let block = 0;
  let linkAt = 0;
  for (const entry of layer.entries) {
    const inode = entry.index;
    // Linux knows no permissions of symbolic links: unpacked ones have them all, whatever their tar says.
    const permissions = entry.type === "symlink" ? 0o777 : entry.mode & 0o7777;
    writeAttributes(sections, inode, TYPE_BITS[entry.type] | permissions, entry.linkCount, entry.mtimeNs);
    sections.uid[inode] = entry.uid;
    sections.gid[inode] = entry.gid;
    sections.xattr[inode] = plan.xattrs.place(inode);
    if (entry.type === "reg") {
      sections.size[inode] = entry.size;
      sections.first[inode] = entry.chunks[0]?.index ?? 0;
      sections.count[inode] = entry.chunks.length;
      if (entry.size < OWN_FILE_BYTES) {
        sections.place[inode] = block;
        block += Math.ceil(entry.size / 4096);
        if (block > MAX_UINT32) throw new EstargzError("LIMIT_EXCEEDED", "the layer has more than 16 TiB of small files");
      }
    } else if (entry.type === "symlink") {
      const target = plan.links.get(inode) ?? Buffer.alloc(0);
      sections.size[inode] = target.length;
      sections.first[inode] = linkAt;
      sections.count[inode] = target.length;
      sections.linkBytes.set(target, linkAt);
      linkAt += target.length;
    } else if (entry.type === "char" || entry.type === "block") {
      sections.place[inode] = encodeDevice(entry.devMajor, entry.devMinor);
    }
  }
  return block * 4096;
}

/** The kernel's 32-bit device number. */
function encodeDevice(major: number, minor: number): number {
  return ((minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xfff00) << 12)) >>> 0;
}

function writeAttributes(sections: Sections, inode: number, mode: number, linkCount: number, mtimeNs: bigint): void {
  const nanoseconds = Number(((mtimeNs % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n);
  sections.mode[inode] = mode;
  sections.linkCount[inode] = Math.max(1, linkCount);
  sections.mtimeSeconds[inode] = Number((mtimeNs - BigInt(nanoseconds)) / 1_000_000_000n);
  sections.mtimeNanoseconds[inode] = nanoseconds;
}

function writeDirectories(plan: Plan, sections: Sections): void {
  let position = 0;
  let at = 0;
  const named = new Uint8Array(sections.mode.length);
  for (const directory of plan.directories) {
    sections.first[directory.inode] = position;
    sections.count[directory.inode] = directory.names.length;
    for (const { bytes, inode } of directory.names) {
      sections.nameStart[position] = at;
      sections.nameInode[position] = inode;
      sections.nameBytes.set(bytes, at);
      if (named[inode] === 0) sections.parent[inode] = directory.inode;
      named[inode] = 1;
      at += bytes.length;
      position++;
    }
  }
  sections.nameStart[position] = at;
}

function writeChunks(layer: Layer, sections: Sections): void {
  for (const chunk of layer.chunks) {
    const at = chunk.index;
    const span = layer.span(chunk);
    limit("bytes in one chunk", Math.max(chunk.length, chunk.innerOffset));
    sections.chunkFileOffset[at] = chunk.fileOffset;
    sections.chunkBlobOffset[at] = chunk.blobOffset;
    sections.chunkLength[at] = chunk.length;
    sections.chunkInnerOffset[at] = chunk.innerOffset;
    sections.chunkSpanLength[at] = Math.min(span.length, mostCompressedBytes(chunk.innerOffset + chunk.length));
    sections.chunkInode[at] = chunk.entry;
    sections.chunkFlags[at] = (chunk.zeros ? ChunkFlag.zeros : 0) | (chunk.digest === undefined ? 0 : ChunkFlag.digest);
    if (chunk.digest !== undefined) sections.chunkDigest.set(sha256Bytes(chunk), at * 32);
  }
}

/** More than gzip or zstd can make of so many bytes, header and all: what lies further on is never needed. */
function mostCompressedBytes(bytes: number): number {
  return bytes + Math.ceil(bytes / 64) + 128 * 1024;
}

function sha256Bytes(chunk: Chunk): Buffer {
  if (chunk.digest?.startsWith("sha256:") !== true) {
    throw new EstargzError("UNSUPPORTED", `chunk ${chunk.index} has digest ${String(chunk.digest)}; only sha256 can be checked`);
  }
  return Buffer.from(digestHex(chunk.digest), "hex");
}

function writeWhiteouts(layer: Layer, plan: Plan, sections: Sections): void {
  plan.whiteouts.forEach(({ parent, mtimeNs }, index) => {
    const inode = layer.entries.length + index;
    writeAttributes(sections, inode, TYPE_BITS.char, 1, mtimeNs);
    sections.parent[inode] = parent;
  });
}

function writeState(layer: Layer, plan: Plan, sections: Sections): void {
  const directory = plan.stateDirectory;
  const file = directory + 1;
  const chunk = layer.chunks.length;
  const mtimeNs = layer.root.mtimeNs;
  writeAttributes(sections, directory, TYPE_BITS.dir | 0o500, 2, mtimeNs);
  writeAttributes(sections, file, TYPE_BITS.reg | 0o400, 1, mtimeNs);
  sections.size[file] = STATE_FILE_BYTES;
  sections.first[file] = chunk;
  sections.count[file] = 1;
  sections.chunkLength[chunk] = STATE_FILE_BYTES;
  sections.chunkInode[chunk] = file;
  sections.chunkFlags[chunk] = ChunkFlag.virtual;
}

function writeHeader(buffer: ArrayBufferLike, layer: Layer, counts: Parameters<typeof layout>[1], plan: Plan, dataBytes: number): void {
  const header = new DataView(buffer);
  const words: readonly (readonly [number, number])[] = [
    [HeaderWord.magic, MAGIC],
    [HeaderWord.version, LAYOUT_VERSION],
    [HeaderWord.inodes, counts.inodes],
    [HeaderWord.names, counts.names],
    [HeaderWord.chunks, counts.chunks],
    [HeaderWord.nameBytes, counts.nameBytes],
    [HeaderWord.linkBytes, counts.linkBytes],
    [HeaderWord.xattrBytes, counts.xattrBytes],
    [HeaderWord.stateDirectory, plan.stateDirectory],
    [HeaderWord.stateFile, plan.stateDirectory + 1],
    [
      HeaderWord.flags,
      (counts.xattrBytes > 0 ? HeaderFlag.hasXattrs : 0) |
        (layer.verified ? HeaderFlag.verified : 0) |
        (layer.compression === "zstd" ? HeaderFlag.zstd : 0),
    ],
  ];
  for (const [index, value] of words) header.setUint32(index * 4, value, true);
  header.setFloat64(HeaderFloat.dataBytes, dataBytes, true);
  header.setFloat64(HeaderFloat.blobSize, layer.blobSize, true);
  header.setFloat64(HeaderFloat.payloadEnd, layer.payloadEnd, true);
  header.setFloat64(HeaderFloat.prefetchEnd, layer.prefetchEnd ?? -1, true);
  new Uint8Array(buffer, TOC_DIGEST_AT, 32).set(Buffer.from(digestHex(layer.tocDigest), "hex").subarray(0, 32));
  new Uint8Array(buffer, CHECKSUM_AT, 32).set(indexChecksum(buffer));
}

/** SHA-256 of a packed index without its checksum field. */
export function indexChecksum(buffer: ArrayBufferLike): Buffer {
  const bytes = new Uint8Array(buffer);
  return createHash("sha256")
    .update(bytes.subarray(0, CHECKSUM_AT))
    .update(bytes.subarray(CHECKSUM_AT + 32))
    .digest();
}

/** Packs xattrs; equal sets are kept once. */
class XattrTable {
  bytes = 0;
  readonly #places = new Map<number, number>();
  readonly #known = new Map<string, number>();
  readonly #packed: Buffer[] = [];

  add(entry: LayerEntry, opaque: boolean): void {
    if (entry.xattrs.size === 0 && !opaque) return;
    const xattrs = new Map(entry.xattrs);
    if (opaque) for (const name of OPAQUE_XATTRS) xattrs.set(name, Buffer.from("y"));
    const parts: Buffer[] = [Buffer.alloc(2)];
    parts[0]?.writeUInt16LE(xattrs.size);
    for (const [name, value] of xattrs) {
      const key = Buffer.from(name);
      const head = Buffer.alloc(6);
      head.writeUInt16LE(key.length, 0);
      head.writeUInt32LE(value.length, 2);
      parts.push(head, key, Buffer.from(value));
    }
    const packed = Buffer.concat(parts);
    const text = packed.toString("latin1");
    let place = this.#known.get(text);
    if (place === undefined) {
      place = this.bytes + 1;
      this.#known.set(text, place);
      this.#packed.push(packed);
      this.bytes += packed.length;
    }
    this.#places.set(entry.index, place);
  }

  place(inode: number): number {
    return this.#places.get(inode) ?? 0;
  }

  writeTo(target: Uint8Array): void {
    let at = 0;
    for (const packed of this.#packed) {
      target.set(packed, at);
      at += packed.length;
    }
  }
}

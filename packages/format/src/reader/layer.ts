import type {
  ByteRange,
  Chunk,
  Digest,
  DirectoryEntry,
  Layer,
  LayerEntry,
  ReaderAt,
  ReadOptions,
  VerifyLevel,
  VerifyReport,
} from "@estargz/interface";
import { EstargzError } from "@estargz/interface";
import type { LayerLimits } from "../limits.ts";
import { cleanPath } from "../toc/path.ts";
import { readTocTable, type TocTable } from "../toc/toc-table.ts";
import { buildTree, type Tree } from "../toc/tree.ts";
import { type Codecs, decodeChunk } from "./decode-chunk.ts";
import { TableEntry } from "./layer-entry.ts";
import { readFileRange, streamChunks } from "./read-file.ts";
import { compressedBound, memberEnds } from "./spans.ts";
import { verifyLayer } from "./verify-layer.ts";

/** What a layer is made of once its TOC's bytes are known and verified. */
export interface LayerParts {
  readonly blob: ReaderAt;
  readonly blobSize: number;
  readonly format: Layer["format"];
  readonly payloadEnd: number;
  readonly tocBytes: Uint8Array;
  readonly tocDigest: Digest;
  readonly verified: boolean;
  readonly limits: LayerLimits;
  readonly codecs: Codecs;
}

/** Parses the TOC and gives the layer. Throws what {@link readTocTable} and {@link buildTree} throw. */
export function createLayer(parts: LayerParts): Layer {
  const { limits, payloadEnd, verified } = parts;
  const table = readTocTable(parts.tocBytes, { limits, payloadEnd, requireDigests: verified });
  return new TableLayer(parts, table, buildTree(table, limits));
}

/** Name at the root of a layer that says: prefetch everything before me. */
export const PREFETCH_LANDMARK = ".prefetch.landmark";
/** Name at the root of a layer that says: prefetch nothing. */
export const NO_PREFETCH_LANDMARK = ".no.prefetch.landmark";

class TableLayer implements Layer {
  readonly format: Layer["format"];
  readonly compression: "gzip" | "zstd";
  readonly tocDigest: Digest;
  readonly tocBytes: Uint8Array;
  readonly verified: boolean;
  readonly blobSize: number;
  readonly payloadEnd: number;
  readonly blob: ReaderAt;
  readonly #codecs: Codecs;
  readonly #table: TocTable;
  readonly #tree: Tree;
  readonly #ends: Float64Array;
  /** First chunk of each inode, in the numbering of this layer; one more at the end. */
  readonly #firstChunks: Uint32Array;
  /** Column of each chunk of this layer; the same numbers if no entry was replaced. */
  readonly #columns: Uint32Array;
  readonly #entries: (LayerEntry | undefined)[];
  #allEntries: readonly LayerEntry[] | undefined;
  #allChunks: readonly Chunk[] | undefined;

  constructor(parts: LayerParts, table: TocTable, tree: Tree) {
    this.format = parts.format;
    this.compression = parts.format === "zstd:chunked" ? "zstd" : "gzip";
    this.tocDigest = parts.tocDigest;
    this.tocBytes = parts.tocBytes;
    this.verified = parts.verified;
    this.blobSize = parts.blobSize;
    this.payloadEnd = parts.payloadEnd;
    this.blob = parts.blob;
    this.#codecs = parts.codecs;
    this.#table = table;
    this.#tree = tree;
    this.#ends = memberEnds(table.chunks, parts.payloadEnd);
    this.#entries = Array.from({ length: tree.rows.length });
    [this.#firstChunks, this.#columns] = numberChunks(table, tree);
  }

  get root(): LayerEntry {
    return this.#entry(0);
  }

  get entries(): readonly LayerEntry[] {
    this.#allEntries ??= this.#tree.rows.map((_, inode) => this.#entry(inode));
    return this.#allEntries;
  }

  get chunks(): readonly Chunk[] {
    this.#allChunks ??= this.entries.flatMap((entry) => entry.chunks);
    return this.#allChunks;
  }

  get prefetchEnd(): number | undefined {
    if (this.#tree.find(NO_PREFETCH_LANDMARK) !== undefined) return 0;
    const landmark = this.lookup(PREFETCH_LANDMARK);
    return landmark?.chunks[0]?.blobOffset;
  }

  lookup(path: string): LayerEntry | undefined {
    const inode = this.#tree.find(cleanPath(path));
    return inode === undefined ? undefined : this.#entry(inode);
  }

  children(entry: LayerEntry): readonly DirectoryEntry[] {
    return this.#tree.children(entry.index).map(({ name, inode }) => ({ name, entry: this.#entry(inode) }));
  }

  span(chunk: Chunk): ByteRange {
    if (chunk.zeros) return { offset: chunk.blobOffset, length: 0 };
    const end = this.#ends[this.#columns[chunk.index] as number] ?? 0;
    const bound = compressedBound(chunk.innerOffset + chunk.length);
    return { offset: chunk.blobOffset, length: Math.min(end - chunk.blobOffset, bound) };
  }

  decode(bytes: Uint8Array, chunk: Chunk): Uint8Array {
    const { length, innerOffset, digest, zeros } = chunk;
    return decodeChunk(bytes, { compression: this.compression, length, innerOffset, digest, zeros }, this.#codecs);
  }

  async readChunk(chunk: Chunk, options: ReadOptions = {}): Promise<Uint8Array> {
    options.signal?.throwIfAborted();
    const { offset, length } = this.span(chunk);
    return this.decode(await this.blob.readAt(offset, length, options), chunk);
  }

  async readFile(entry: LayerEntry, offset = 0, length: number = entry.size, options: ReadOptions = {}): Promise<Uint8Array> {
    checkRegular(entry);
    options.signal?.throwIfAborted();
    return readFileRange(this, entry, offset, length, options);
  }

  streamFile(entry: LayerEntry, options: ReadOptions = {}): AsyncIterable<Uint8Array> {
    checkRegular(entry);
    return streamChunks(this, entry.chunks, options);
  }

  verify(level: VerifyLevel, options: ReadOptions = {}): Promise<VerifyReport> {
    return verifyLayer(this, this.#table, level, options);
  }

  #entry(inode: number): LayerEntry {
    const known = this.#entries[inode];
    if (known !== undefined) return known;
    const row = this.#tree.rows[inode] as number;
    const entry = new TableEntry(inode, row, this.#tree.linkCounts[inode] as number, this.#table, (index) => this.#chunksOf(index));
    this.#entries[inode] = entry;
    return entry;
  }

  #chunksOf(inode: number): Chunk[] {
    const list: Chunk[] = [];
    const columns = this.#table.chunks;
    const end = this.#firstChunks[inode + 1] as number;
    for (let index = this.#firstChunks[inode] as number; index < end; index += 1) {
      const column = this.#columns[index] as number;
      list.push({
        index,
        entry: inode,
        fileOffset: columns.fileOffsets[column] as number,
        length: columns.lengths[column] as number,
        blobOffset: columns.blobOffsets[column] as number,
        innerOffset: columns.innerOffsets[column] as number,
        digest: this.#table.digestTexts.get(columns.digests[column] as number),
        zeros: columns.zeros.has(column),
      });
    }
    return list;
  }
}

/** Numbers the chunks of the entries that are left, in order of inodes. */
function numberChunks(table: TocTable, tree: Tree): [first: Uint32Array, columns: Uint32Array] {
  const first = new Uint32Array(tree.rows.length + 1);
  const columns = new Uint32Array(table.chunks.count);
  let count = 0;
  for (let inode = 0; inode < tree.rows.length; inode += 1) {
    first[inode] = count;
    const row = tree.rows[inode] as number;
    const end = table.endOfChunks(row);
    for (let column = table.firstChunk(row); column < end; column += 1) columns[count++] = column;
  }
  first[tree.rows.length] = count;
  return [first, columns.subarray(0, count)];
}

function checkRegular(entry: LayerEntry): void {
  if (entry.type === "reg") return;
  throw new EstargzError("INVALID_ARGUMENT", `${JSON.stringify(entry.path)} is of type ${entry.type}; only regular files have content`);
}

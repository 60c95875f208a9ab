import { EstargzError } from "@estargz/interface";
import { checkLimit, type LayerLimits } from "../limits.ts";
import { ChunkColumns, grown } from "./chunk-columns.ts";
import { DigestTexts } from "./digest-texts.ts";
import { invalidEntry } from "./entry-fields.ts";
import { CHUNK, KIND, type Kind } from "./kind.ts";
import { checkPath } from "./path.ts";
import type { TocFields } from "./toc-fields.ts";
import { parseTocJson } from "./toc-json.ts";

/** How the table is read. */
export interface TocTableOptions {
  readonly limits: LayerLimits;
  /** End of the payload in the blob: offsets have to be below. */
  readonly payloadEnd: number;
  /** Whether each chunk has to have a digest. */
  readonly requireDigests: boolean;
}

/**
 * The entries of a TOC in columns, in the TOC's order. One row for each entry that isn't a chunk. The columns of numbers are longer
 * than there are rows, and others after an addition.
 */
export class TocTable {
  readonly paths: string[] = [];
  kinds: Uint8Array;
  sizes: Float64Array;
  modes: Uint16Array;
  uids: Uint32Array;
  gids: Uint32Array;
  seconds: Float64Array;
  /** References in {@link TocTable.digestTexts}. */
  digests: Int32Array;
  readonly digestTexts: DigestTexts;
  // Few rows have these.
  readonly nanoseconds: Map<number, number> = new Map();
  readonly linkNames: Map<number, string> = new Map();
  readonly devices: Map<number, { readonly major: number; readonly minor: number }> = new Map();
  readonly xattrs: Map<number, Readonly<Record<string, unknown>>> = new Map();
  readonly chunks: ChunkColumns;
  /** Rows that the TOC lists; those of directories that are only implied come after them. */
  listedRows = 0;
  #firstChunks: Uint32Array;

  /** @param capacity - How many rows there are likely to be. */
  constructor(digestTexts: DigestTexts, capacity: number) {
    this.digestTexts = digestTexts;
    this.chunks = new ChunkColumns(capacity);
    this.kinds = new Uint8Array(capacity);
    this.sizes = new Float64Array(capacity);
    this.modes = new Uint16Array(capacity);
    this.uids = new Uint32Array(capacity);
    this.gids = new Uint32Array(capacity);
    this.seconds = new Float64Array(capacity);
    this.digests = new Int32Array(capacity);
    this.#firstChunks = new Uint32Array(capacity);
  }

  #grow(): void {
    const capacity = this.kinds.length * 2 + 1;
    this.kinds = grown(this.kinds, new Uint8Array(capacity));
    this.sizes = grown(this.sizes, new Float64Array(capacity));
    this.modes = grown(this.modes, new Uint16Array(capacity));
    this.uids = grown(this.uids, new Uint32Array(capacity));
    this.gids = grown(this.gids, new Uint32Array(capacity));
    this.seconds = grown(this.seconds, new Float64Array(capacity));
    this.digests = grown(this.digests, new Int32Array(capacity));
    this.#firstChunks = grown(this.#firstChunks, new Uint32Array(capacity));
  }

  /** Adds a row for a directory that is only implied. */
  addImplied(path: string): number {
    return this.addRow(path, KIND.dir, 0, 0o755, 0, 0, 0, 0);
  }

  addRow(path: string, kind: Kind, size: number, mode: number, uid: number, gid: number, seconds: number, digest: number): number {
    const row = this.paths.length;
    if (row === this.kinds.length) this.#grow();
    this.paths.push(path);
    this.kinds[row] = kind;
    this.sizes[row] = size;
    this.modes[row] = mode;
    this.uids[row] = uid;
    this.gids[row] = gid;
    this.seconds[row] = seconds;
    this.digests[row] = digest;
    this.#firstChunks[row] = this.chunks.count;
    return row;
  }

  /** First chunk of a row. */
  firstChunk(row: number): number {
    return this.#firstChunks[row] as number;
  }

  /** The chunk after a row's last one. */
  endOfChunks(row: number): number {
    return row + 1 < this.paths.length ? (this.#firstChunks[row + 1] as number) : this.chunks.count;
  }
}

/** JSON bytes of an entry, about; shorter ones only make columns grow. */
const ENTRY_BYTES = 200;

/**
 * Reads a TOC's JSON into columns. Checks every entry by itself and that chunks tile their files; what entries say about each
 * other (parents, links) is checked when the tree is built.
 *
 * @throws {@link EstargzError} `INVALID_TOC`, `LIMIT_EXCEEDED`, `UNVERIFIED`.
 */
export function readTocTable(bytes: Uint8Array, options: TocTableOptions): TocTable {
  const digestTexts = new DigestTexts(bytes);
  const reader = new TableReader(new TocTable(digestTexts, Math.ceil(bytes.length / ENTRY_BYTES)), options);
  parseTocJson(bytes, digestTexts, (entry) => reader.add(entry));
  return reader.finish();
}

const MAX_ZEROS_BYTES = 4 << 20;

class TableReader {
  readonly #table: TocTable;
  readonly #options: TocTableOptions;
  #count = 0;
  // The last regular file, as long as chunks of it may follow.
  #file = -1;
  #covered = 0;
  /** Xattrs that were checked last: neighbours mostly have the same ones. */
  #xattrs: TocFields["xattrs"];

  constructor(table: TocTable, options: TocTableOptions) {
    this.#table = table;
    this.#options = options;
  }

  add(entry: TocFields): void {
    this.#count += 1;
    if (this.#count > this.#options.limits.maxEntries) checkLimit("maxEntries", this.#count, this.#options.limits, "number of TOC entries");
    if (entry.kind === CHUNK) {
      if (this.#file < 0) throw invalidEntry(undefined, "a chunk does not follow a regular file");
      this.#addPiece(entry);
      return;
    }
    this.#closeFile();
    this.#addRow(entry, entry.kind);
  }

  finish(): TocTable {
    this.#closeFile();
    this.#table.listedRows = this.#table.paths.length;
    return this.#table;
  }

  #addRow(entry: TocFields, kind: Kind): void {
    const { path } = entry;
    checkPath(path, this.#options.limits, entry.isPlain);
    if (path === "" && kind !== KIND.dir) throw invalidEntry(path, "the root has to be a directory");
    const table = this.#table;
    const row = table.addRow(path, kind, entry.size, entry.mode % 0o10000, entry.uid, entry.gid, entry.seconds, entry.digest);
    if (entry.nanoseconds !== 0) table.nanoseconds.set(row, entry.nanoseconds);
    if (kind === KIND.symlink || kind === KIND.hardlink) this.#addLink(entry, kind, row);
    else if (kind === KIND.char || kind === KIND.block) table.devices.set(row, { major: entry.devMajor, minor: entry.devMinor });
    if (entry.xattrs !== undefined) this.#addXattrs(path, entry.xattrs, row);
    if (kind !== KIND.reg) return;
    this.#file = row;
    this.#covered = 0;
    if (entry.size > 0) this.#addPiece(entry);
  }

  #addLink({ path, linkName: target }: TocFields, kind: Kind, row: number): void {
    if (target.length > this.#options.limits.maxPathBytes)
      checkLimit("maxPathBytes", target.length, this.#options.limits, "a link's target");
    if (target.includes("\0") || !target.isWellFormed()) throw invalidEntry(path, "its target can't be a path");
    if (target === "" && kind === KIND.symlink) throw invalidEntry(path, "it is a symlink without a target");
    this.#table.linkNames.set(row, target);
  }

  #addXattrs(path: string, xattrs: Readonly<Record<string, unknown>>, row: number): void {
    if (xattrs !== this.#xattrs) this.#checkXattrs(path, xattrs);
    this.#xattrs = xattrs;
    this.#table.xattrs.set(row, xattrs);
  }

  #checkXattrs(path: string, xattrs: Readonly<Record<string, unknown>>): void {
    let total = 0;
    for (const [name, value] of Object.entries(xattrs)) {
      if (name === "" || name.includes("\0") || !name.isWellFormed()) throw invalidEntry(path, "an xattr has no valid name");
      // Go's nil is an empty value.
      if (
        value !== null &&
        (typeof value !== "string" || !/^[A-Za-z0-9+/\r\n]*={0,2}[\r\n]*$/.test(value) || value.replaceAll(/[\r\n]/g, "").length % 4 !== 0)
      ) {
        throw invalidEntry(path, `its xattr ${JSON.stringify(name.slice(0, 80))} is not base64`);
      }
      total += name.length + (value === null ? 0 : (value.length * 3) / 4);
    }
    checkLimit("maxXattrBytes", Math.floor(total), this.#options.limits, "extended attributes of an entry");
  }

  /** Adds the chunk that an entry of type reg or chunk stands for. */
  #addPiece(entry: TocFields): void {
    const { limits, payloadEnd } = this.#options;
    const table = this.#table;
    const size = table.sizes[this.#file] as number;
    const at = entry.chunkOffset;
    if (at !== this.#covered) {
      throw invalidEntry(table.paths[this.#file], `its chunks leave a gap or overlap: one starts at ${at} and not at ${this.#covered}`);
    }
    const length = entry.chunkSize || size - at;
    if (length <= 0 || at + length > size) throw invalidEntry(table.paths[this.#file], `a chunk at ${at} reaches beyond its ${size} bytes`);
    if (entry.zeros) this.#addZeros(at, length, entry.chunkDigest);
    else {
      const { offset, innerOffset } = entry;
      if (length > limits.maxChunkBytes) checkLimit("maxChunkBytes", length, limits, "size of a chunk");
      if (innerOffset > limits.maxInnerOffset) checkLimit("maxInnerOffset", innerOffset, limits, "innerOffset of a chunk");
      if (offset >= payloadEnd)
        throw invalidEntry(table.paths[this.#file], `a chunk is at ${offset}, not below the payload's end ${payloadEnd}`);
      table.chunks.add(at, length, offset, innerOffset, false, entry.chunkDigest);
    }
    this.#covered = at + length;
  }

  /** Long runs of zeros become several chunks, so that nobody has to hold one in memory. */
  #addZeros(at: number, length: number, digest: number): void {
    this.#count += Math.ceil(length / MAX_ZEROS_BYTES) - 1;
    checkLimit("maxEntries", this.#count, this.#options.limits, "number of TOC entries and runs of zeros");
    if (length <= MAX_ZEROS_BYTES) this.#table.chunks.add(at, length, 0, 0, true, digest);
    else {
      for (let done = 0; done < length; done += MAX_ZEROS_BYTES) {
        this.#table.chunks.add(at + done, Math.min(MAX_ZEROS_BYTES, length - done), 0, 0, true, 0);
      }
    }
  }

  #closeFile(): void {
    const file = this.#file;
    if (file < 0) return;
    this.#file = -1;
    const table = this.#table;
    const size = table.sizes[file] as number;
    if (this.#covered !== size) throw invalidEntry(table.paths[file], `its chunks cover ${this.#covered} of ${size} bytes`);
    const first = table.firstChunk(file);
    // Legacy layers have a digest of the whole file only; it is as good for a file of one chunk.
    if (table.chunks.count === first + 1) table.chunks.digests[first] ||= table.digests[file] as number;
    if (!this.#options.requireDigests) return;
    for (let chunk = first; chunk < table.chunks.count; chunk += 1) {
      if (table.chunks.digests[chunk] !== 0 || table.chunks.zeros.has(chunk)) continue;
      throw new EstargzError(
        "UNVERIFIED",
        `the TOC has no digest for a chunk of ${JSON.stringify(table.paths[file])}; only allowUnverified opens this layer`,
      );
    }
  }
}

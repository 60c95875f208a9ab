import { type Digest, EstargzError } from "@estargz/interface";
import { checkLimit, type LayerLimits } from "../limits.ts";
import { ChunkColumns, readChunkType } from "./chunk-columns.ts";
import { checkKeys, digestOf, invalidEntry, numberOf, textOf } from "./entry-fields.ts";
import { checkPath, cleanPath } from "./path.ts";
import { parseRfc3339, type Timestamp } from "./rfc3339.ts";
import { parseTocJson, type RawTocEntry } from "./toc-json.ts";

/** Kinds of TOC entries other than chunks, as numbers. */
export const KIND = { dir: 0, reg: 1, symlink: 2, char: 3, block: 4, fifo: 5, hardlink: 6 } as const;
/** One of {@link KIND}. */
export type Kind = (typeof KIND)[keyof typeof KIND];

/** How the table is read. */
export interface TocTableOptions {
  readonly limits: LayerLimits;
  /** End of the payload in the blob: offsets have to be below. */
  readonly payloadEnd: number;
  /** Whether each chunk has to have a digest. */
  readonly requireDigests: boolean;
}

/** The entries of a TOC in columns, in the TOC's order. One row for each entry that isn't a chunk. */
export class TocTable {
  readonly paths: string[] = [];
  readonly kinds: Kind[] = [];
  readonly sizes: number[] = [];
  readonly modes: number[] = [];
  readonly uids: number[] = [];
  readonly gids: number[] = [];
  readonly seconds: number[] = [];
  /** First chunk of a row; its last is before the next row's first. */
  readonly firstChunks: number[] = [];
  readonly digests: (Digest | undefined)[] = [];
  // Few rows have these.
  readonly nanoseconds: Map<number, number> = new Map();
  readonly linkNames: Map<number, string> = new Map();
  readonly devices: Map<number, { readonly major: number; readonly minor: number }> = new Map();
  readonly xattrs: Map<number, Readonly<Record<string, unknown>>> = new Map();
  readonly chunks: ChunkColumns = new ChunkColumns();
  /** Rows that the TOC lists; those of directories that are only implied come after them. */
  listedRows = 0;

  /** Adds a row for a directory that is only implied. */
  addImplied(path: string): number {
    return this.addRow(path, KIND.dir, 0, 0o755, 0, 0, 0, undefined);
  }

  addRow(
    path: string,
    kind: Kind,
    size: number,
    mode: number,
    uid: number,
    gid: number,
    seconds: number,
    digest: Digest | undefined,
  ): number {
    this.paths.push(path);
    this.kinds.push(kind);
    this.sizes.push(size);
    this.modes.push(mode);
    this.uids.push(uid);
    this.gids.push(gid);
    this.seconds.push(seconds);
    this.firstChunks.push(this.chunks.count);
    this.digests.push(digest);
    return this.paths.length - 1;
  }
}

/**
 * Reads a TOC's JSON into columns. Checks every entry by itself and that chunks tile their files; what entries say about each
 * other (parents, links) is checked when the tree is built.
 *
 * @throws {@link EstargzError} `INVALID_TOC`, `LIMIT_EXCEEDED`, `UNVERIFIED`.
 */
export function readTocTable(bytes: Uint8Array, options: TocTableOptions): TocTable {
  const reader = new TableReader(options);
  parseTocJson(bytes, (entry) => reader.add(entry));
  return reader.finish();
}

const MAX_ZEROS_BYTES = 4 << 20;
const MAX_ID = 0xffff_ffff;
const KINDS: ReadonlyMap<unknown, Kind> = new Map(Object.entries(KIND));

class TableReader {
  readonly #table = new TocTable();
  readonly #options: TocTableOptions;
  readonly #keys: string[] = [];
  #count = 0;
  // The last regular file, as long as chunks of it may follow.
  #file = -1;
  #covered = 0;
  #timeText = "";
  #time: Timestamp = { seconds: 0, nanoseconds: 0 };

  constructor(options: TocTableOptions) {
    this.#options = options;
  }

  add(entry: RawTocEntry): void {
    this.#count += 1;
    if (this.#count > this.#options.limits.maxEntries) checkLimit("maxEntries", this.#count, this.#options.limits, "number of TOC entries");
    checkKeys(entry, this.#keys);
    const type = entry.type;
    if (type === "chunk") {
      this.#addChunk(entry);
      return;
    }
    this.#closeFile();
    const kind = KINDS.get(type);
    if (kind === undefined) throw invalidEntry(entry.name, `its type is ${String(JSON.stringify(type)).slice(0, 40)}`);
    this.#addRow(entry, kind);
  }

  finish(): TocTable {
    this.#closeFile();
    this.#table.listedRows = this.#table.paths.length;
    return this.#table;
  }

  #addRow(entry: RawTocEntry, kind: Kind): void {
    const { limits } = this.#options;
    if (typeof entry.name !== "string") throw invalidEntry(undefined, "its name is not a text");
    const path = cleanPath(entry.name);
    checkPath(path, limits);
    if (path === "" && kind !== KIND.dir) throw invalidEntry(entry.name, "the root has to be a directory");
    const size = kind === KIND.reg ? numberOf(entry.size, "size", entry) : 0;
    const time = this.#readTime(entry);
    const mode = numberOf(entry.mode, "mode", entry) % 0o10000;
    const uid = numberOf(entry.uid, "uid", entry, MAX_ID);
    const gid = numberOf(entry.gid, "gid", entry, MAX_ID);
    const digest = kind === KIND.reg ? digestOf(entry.digest, "digest", entry) : undefined;
    const row = this.#table.addRow(path, kind, size, mode, uid, gid, time.seconds, digest);
    if (time.nanoseconds !== 0) this.#table.nanoseconds.set(row, time.nanoseconds);
    this.#addRare(entry, kind, row);
    if (kind !== KIND.reg) return;
    this.#file = row;
    this.#covered = 0;
    // Most files have one chunk, with the digest of the file; one text is kept then.
    if (size > 0) this.#addPiece(entry, entry.chunkDigest === digest ? digest : digestOf(entry.chunkDigest, "chunkDigest", entry));
  }

  #addRare(entry: RawTocEntry, kind: Kind, row: number): void {
    if (kind === KIND.symlink || kind === KIND.hardlink) {
      const target = textOf(entry.linkName, "linkName", entry);
      if (target.length > this.#options.limits.maxPathBytes)
        checkLimit("maxPathBytes", target.length, this.#options.limits, "a link's target");
      if (target.includes("\0") || !target.isWellFormed()) throw invalidEntry(entry.name, "its target can't be a path");
      if (target === "" && kind === KIND.symlink) throw invalidEntry(entry.name, "it is a symlink without a target");
      this.#table.linkNames.set(row, target);
    } else if (kind === KIND.char || kind === KIND.block) {
      const major = numberOf(entry.devMajor, "devMajor", entry, MAX_ID);
      this.#table.devices.set(row, { major, minor: numberOf(entry.devMinor, "devMinor", entry, MAX_ID) });
    }
    const xattrs = entry.xattrs;
    if (xattrs === undefined || xattrs === null) return;
    if (typeof xattrs !== "object" || Array.isArray(xattrs)) throw invalidEntry(entry.name, "its xattrs are not an object");
    this.#table.xattrs.set(row, this.#checkXattrs(entry, xattrs as Record<string, unknown>));
  }

  #checkXattrs(entry: RawTocEntry, xattrs: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
    let total = 0;
    for (const [name, value] of Object.entries(xattrs)) {
      if (name === "" || name.includes("\0") || !name.isWellFormed()) throw invalidEntry(entry.name, "an xattr has no valid name");
      // Go's nil is an empty value.
      if (
        value !== null &&
        (typeof value !== "string" || !/^[A-Za-z0-9+/\r\n]*={0,2}[\r\n]*$/.test(value) || value.replaceAll(/[\r\n]/g, "").length % 4 !== 0)
      ) {
        throw invalidEntry(entry.name, `its xattr ${JSON.stringify(name.slice(0, 80))} is not base64`);
      }
      total += name.length + (value === null ? 0 : (value.length * 3) / 4);
    }
    checkLimit("maxXattrBytes", Math.floor(total), this.#options.limits, "extended attributes of an entry");
    return xattrs;
  }

  #readTime(entry: RawTocEntry): Timestamp {
    const text = textOf(entry.modtime, "modtime", entry);
    // Neighbours mostly have the same time.
    if (text !== this.#timeText) {
      this.#timeText = text;
      this.#time = parseRfc3339(text);
    }
    return this.#time;
  }

  #addChunk(entry: RawTocEntry): void {
    if (this.#file < 0) throw invalidEntry(entry.name, "a chunk does not follow a regular file");
    this.#addPiece(entry, digestOf(entry.chunkDigest, "chunkDigest", entry));
  }

  /** Adds the chunk that an entry of type reg or chunk stands for. */
  #addPiece(entry: RawTocEntry, digest: Digest | undefined): void {
    const { limits, payloadEnd } = this.#options;
    const table = this.#table;
    const size = table.sizes[this.#file] as number;
    const at = numberOf(entry.chunkOffset, "chunkOffset", entry);
    if (at !== this.#covered) {
      throw invalidEntry(table.paths[this.#file], `its chunks leave a gap or overlap: one starts at ${at} and not at ${this.#covered}`);
    }
    const length = numberOf(entry.chunkSize, "chunkSize", entry) || size - at;
    if (length <= 0 || at + length > size) throw invalidEntry(table.paths[this.#file], `a chunk at ${at} reaches beyond its ${size} bytes`);
    if (readChunkType(entry)) this.#addZeros(at, length, digest);
    else {
      const offset = numberOf(entry.offset, "offset", entry);
      const innerOffset = numberOf(entry.innerOffset, "innerOffset", entry);
      checkLimit("maxChunkBytes", length, limits, "size of a chunk");
      checkLimit("maxInnerOffset", innerOffset, limits, "innerOffset of a chunk");
      if (offset >= payloadEnd)
        throw invalidEntry(table.paths[this.#file], `a chunk is at ${offset}, not below the payload's end ${payloadEnd}`);
      table.chunks.add(this.#file, at, length, offset, innerOffset, false, digest);
    }
    this.#covered = at + length;
  }

  /** Long runs of zeros become several chunks, so that nobody has to hold one in memory. */
  #addZeros(at: number, length: number, digest: Digest | undefined): void {
    this.#count += Math.ceil(length / MAX_ZEROS_BYTES) - 1;
    checkLimit("maxEntries", this.#count, this.#options.limits, "number of TOC entries and runs of zeros");
    if (length <= MAX_ZEROS_BYTES) this.#table.chunks.add(this.#file, at, length, 0, 0, true, digest);
    else {
      for (let done = 0; done < length; done += MAX_ZEROS_BYTES) {
        this.#table.chunks.add(this.#file, at + done, Math.min(MAX_ZEROS_BYTES, length - done), 0, 0, true, undefined);
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
    const first = table.firstChunks[file] as number;
    // Legacy layers have a digest of the whole file only; it is as good for a file of one chunk.
    if (table.chunks.count === first + 1) table.chunks.digests[first] ??= table.digests[file];
    if (!this.#options.requireDigests) return;
    for (let chunk = first; chunk < table.chunks.count; chunk += 1) {
      if (table.chunks.digests[chunk] !== undefined || table.chunks.zeros.has(chunk)) continue;
      throw new EstargzError(
        "UNVERIFIED",
        `the TOC has no digest for a chunk of ${JSON.stringify(table.paths[file])}; only allowUnverified opens this layer`,
      );
    }
  }
}

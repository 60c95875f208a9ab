import type { Chunk, Digest, EntryType, LayerEntry } from "@estargz/interface";
import { decodeBase64 } from "../bytes.ts";
import { KIND, type Kind } from "../toc/kind.ts";
import { utf8Length } from "../toc/path.ts";
import type { TocTable } from "../toc/toc-table.ts";

const TYPES: Readonly<Record<Kind, EntryType>> = {
  [KIND.dir]: "dir",
  [KIND.reg]: "reg",
  [KIND.symlink]: "symlink",
  [KIND.char]: "char",
  [KIND.block]: "block",
  [KIND.fifo]: "fifo",
  // Hard links lead to the entry of their target, so none becomes an entry.
  [KIND.hardlink]: "reg",
};

const NO_XATTRS: ReadonlyMap<string, Uint8Array> = new Map();

/** One entry, made from its row when somebody asks for it. */
export class TableEntry implements LayerEntry {
  readonly index: number;
  readonly path: string;
  readonly type: EntryType;
  readonly size: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly linkName: string;
  readonly devMajor: number;
  readonly devMinor: number;
  readonly linkCount: number;
  readonly digest: Digest | undefined;
  readonly #table: TocTable;
  readonly #row: number;
  readonly #chunksOf: (entry: number) => readonly Chunk[];
  #chunks: readonly Chunk[] | undefined;
  #xattrs: ReadonlyMap<string, Uint8Array> | undefined;

  constructor(index: number, row: number, linkCount: number, table: TocTable, chunksOf: (entry: number) => readonly Chunk[]) {
    const kind = table.kinds[row] as Kind;
    this.index = index;
    this.path = table.paths[row] as string;
    this.type = TYPES[kind];
    this.linkName = kind === KIND.symlink ? (table.linkNames.get(row) ?? "") : "";
    this.size = kind === KIND.symlink ? utf8Length(this.linkName) : (table.sizes[row] as number);
    this.mode = table.modes[row] as number;
    this.uid = table.uids[row] as number;
    this.gid = table.gids[row] as number;
    this.devMajor = table.devices.get(row)?.major ?? 0;
    this.devMinor = table.devices.get(row)?.minor ?? 0;
    this.linkCount = linkCount;
    this.digest = kind === KIND.reg ? table.digestTexts.get(table.digests[row] as number) : undefined;
    this.#table = table;
    this.#row = row;
    this.#chunksOf = chunksOf;
  }

  get mtimeNs(): bigint {
    return BigInt(this.#table.seconds[this.#row] as number) * 1_000_000_000n + BigInt(this.#table.nanoseconds.get(this.#row) ?? 0);
  }

  get chunks(): readonly Chunk[] {
    this.#chunks ??= this.size === 0 || this.type !== "reg" ? [] : this.#chunksOf(this.index);
    return this.#chunks;
  }

  get xattrs(): ReadonlyMap<string, Uint8Array> {
    this.#xattrs ??= decodeXattrs(this.#table.xattrs.get(this.#row));
    return this.#xattrs;
  }
}

function decodeXattrs(raw: Readonly<Record<string, unknown>> | undefined): ReadonlyMap<string, Uint8Array> {
  if (raw === undefined) return NO_XATTRS;
  // Their form was checked when the TOC was read.
  return new Map(
    Object.entries(raw).map(([name, value]) => [name, (typeof value === "string" ? decodeBase64(value) : undefined) ?? new Uint8Array(0)]),
  );
}

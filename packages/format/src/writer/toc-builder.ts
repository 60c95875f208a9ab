import { encodeBase64 } from "../bytes.ts";
import type { TarHeader } from "../tar/tar-entry.ts";
import { compareBytewise } from "../toc/path.ts";
import { formatRfc3339, MAX_RFC3339_SECONDS, MIN_RFC3339_SECONDS } from "../toc/rfc3339.ts";

/** Where a chunk begins: number of its member in the blob, and bytes to skip in it. */
export interface ChunkPlace {
  readonly member: number;
  readonly innerOffset: number;
}

interface TocChunk {
  readonly place: ChunkPlace;
  readonly offset: number;
  readonly length: number;
}

interface TocRow {
  readonly header: TarHeader;
  readonly chunks: TocChunk[];
  /** Size of the file's chunks, if they have one size. */
  chunkSize: number | undefined;
  /** Digest of the whole file, if it has several chunks. */
  digest: string | undefined;
  readonly showUser: boolean;
  readonly showGroup: boolean;
}

/** Digest of nothing. */
const EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/** Collects the entries of a TOC while a layer is written, and writes it as the reference does: same fields, order and indentation. */
export class TocBuilder {
  readonly #rows: TocRow[] = [];
  readonly #users = new Map<number, string>();
  readonly #groups = new Map<number, string>();

  addEntry(header: TarHeader): void {
    this.#rows.push({
      header,
      chunks: [],
      chunkSize: undefined,
      digest: undefined,
      showUser: changes(this.#users, header.uid, header.userName),
      showGroup: changes(this.#groups, header.gid, header.groupName),
    });
  }

  /** Says what size the chunks of the last entry's file have, its last one perhaps not. */
  setChunkSize(size: number | undefined): void {
    const row = this.#rows.at(-1);
    if (row !== undefined) row.chunkSize = size;
  }

  /** Adds a chunk to the last entry. */
  addChunk(place: ChunkPlace, offset: number, length: number): void {
    this.#rows.at(-1)?.chunks.push({ place, offset, length });
  }

  /** Sets the digest of the last entry's file, which has several chunks. */
  setFileDigest(hex: string): void {
    const row = this.#rows.at(-1);
    if (row !== undefined) row.digest = hex;
  }

  /**
   * Writes the TOC.
   *
   * @param memberOffset - Offset of each member in the blob.
   * @param chunkDigests - Digest of each chunk, in the order they were added.
   */
  encode(memberOffset: (member: number) => number, chunkDigests: readonly string[]): Uint8Array {
    const entries: string[] = [];
    let chunk = 0;
    for (const row of this.#rows) {
      const digests = chunkDigests.slice(chunk, chunk + row.chunks.length);
      chunk += row.chunks.length;
      const fields = entryFields(row);
      const [first] = row.chunks;
      if (row.header.kind === "reg") {
        const digest = first === undefined ? EMPTY_SHA256 : (row.digest ?? digests[0]);
        fields.push(...placeFields(first?.place, memberOffset), ...deviceFields(row.header), ...xattrFields(row.header));
        fields.push(`"digest": "sha256:${digest}"`, ...chunkFields(row, first, digests[0]));
      } else fields.push(...deviceFields(row.header), ...xattrFields(row.header));
      entries.push(object(fields));
      for (let i = 1; i < row.chunks.length; i += 1) {
        const piece = row.chunks[i] as TocChunk;
        entries.push(
          object([
            `"name": ${text(row.header.name)}`,
            '"type": "chunk"',
            ...placeFields(piece.place, memberOffset),
            ...chunkFields(row, piece, digests[i]),
          ]),
        );
      }
    }
    const list = entries.length === 0 ? "[]" : `[\n${entries.join(",\n")}\n\t]`;
    return new TextEncoder().encode(`{\n\t"version": 1,\n\t"entries": ${list}\n}`);
  }
}

/** Names of owners are written where they differ from the last one seen for the same id. */
function changes(seen: Map<number, string>, id: number, name: string): boolean {
  if (name === "" || seen.get(id) === name) return false;
  seen.set(id, name);
  return true;
}

function entryFields({ header, showUser, showGroup }: TocRow): string[] {
  const fields = [`"name": ${text(header.name)}`, `"type": "${header.kind}"`];
  const number = (key: string, value: number): void => {
    if (value !== 0) fields.push(`"${key}": ${value}`);
  };
  if (header.kind === "reg") number("size", header.size);
  const modtime = tocTime(header);
  if (modtime !== undefined) fields.push(`"modtime": "${modtime}"`);
  if (header.linkName !== "") fields.push(`"linkName": ${text(header.linkName)}`);
  number("mode", header.mode);
  number("uid", header.uid);
  number("gid", header.gid);
  if (showUser) fields.push(`"userName": ${text(header.userName)}`);
  if (showGroup) fields.push(`"groupName": ${text(header.groupName)}`);
  return fields;
}

/** Whole seconds, half a second rounded up; nothing for second 0, as the format has it. Beyond what RFC 3339 can say: the nearest it can. */
function tocTime({ mtime }: TarHeader): string | undefined {
  const seconds = mtime.seconds + (mtime.nanoseconds >= 500_000_000 ? 1 : 0);
  if (seconds === 0) return undefined;
  return formatRfc3339(Math.max(MIN_RFC3339_SECONDS, Math.min(MAX_RFC3339_SECONDS, seconds)));
}

function placeFields(place: ChunkPlace | undefined, memberOffset: (member: number) => number): string[] {
  if (place === undefined) return [];
  const fields: string[] = [];
  const offset = memberOffset(place.member);
  if (offset !== 0) fields.push(`"offset": ${offset}`);
  if (place.innerOffset !== 0) fields.push(`"innerOffset": ${place.innerOffset}`);
  return fields;
}

function deviceFields({ kind, devMajor, devMinor }: TarHeader): string[] {
  if (kind !== "char" && kind !== "block") return [];
  return [...(devMajor === 0 ? [] : [`"devMajor": ${devMajor}`]), ...(devMinor === 0 ? [] : [`"devMinor": ${devMinor}`])];
}

function xattrFields({ xattrs }: TarHeader): string[] {
  if (xattrs.size === 0) return [];
  const names = [...xattrs.keys()].sort(compareBytewise);
  const lines = names.map((name) => `\t\t\t\t${text(name)}: "${encodeBase64(xattrs.get(name) as Uint8Array)}"`);
  return [`"xattrs": {\n${lines.join(",\n")}\n\t\t\t}`];
}

/** A last chunk that isn't a full one has no size: it goes to the end of the file. */
function chunkFields(row: TocRow, chunk: TocChunk | undefined, digest: string | undefined): string[] {
  if (chunk === undefined) return [];
  const fields: string[] = [];
  if (chunk.offset !== 0) fields.push(`"chunkOffset": ${chunk.offset}`);
  if (row.chunks.at(-1) !== chunk || chunk.length === row.chunkSize) fields.push(`"chunkSize": ${chunk.length}`);
  fields.push(`"chunkDigest": "sha256:${digest}"`);
  return fields;
}

function object(fields: readonly string[]): string {
  return `\t\t{\n\t\t\t${fields.join(",\n\t\t\t")}\n\t\t}`;
}

/** JSON text as Go writes it, which escapes what HTML could trip over. */
function text(value: string): string {
  return JSON.stringify(value).replaceAll(/[<>&\u2028\u2029]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

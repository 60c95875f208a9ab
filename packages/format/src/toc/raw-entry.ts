import type { DigestTexts } from "./digest-texts.ts";
import { checkKeys, digestOf, invalidEntry, MAX_ID, numberOf, type RawTocEntry, readChunkType, textOf } from "./entry-fields.ts";
import { CHUNK, KIND } from "./kind.ts";
import { cleanPath } from "./path.ts";
import { parseRfc3339 } from "./rfc3339.ts";
import type { TocFields } from "./toc-fields.ts";

const KINDS: ReadonlyMap<unknown, TocFields["kind"]> = new Map(Object.entries({ ...KIND, chunk: CHUNK }));

/**
 * Reads an entry that JSON.parse gave.
 *
 * @param known - Scratch memory of {@link checkKeys}.
 * @throws `INVALID_TOC` for fields of wrong types.
 */
export function readRawEntry(entry: RawTocEntry, fields: TocFields, digests: DigestTexts, known: string[]): void {
  checkKeys(entry, known);
  fields.clear();
  const kind = KINDS.get(entry.type);
  if (kind === undefined) throw invalidEntry(entry.name, `its type is ${String(JSON.stringify(entry.type)).slice(0, 40)}`);
  fields.kind = kind;
  if (kind === CHUNK) {
    readChunk(entry, fields, digests);
    return;
  }
  if (typeof entry.name !== "string") throw invalidEntry(undefined, "its name is not a text");
  fields.path = cleanPath(entry.name);
  const time = parseRfc3339(textOf(entry.modtime, "modtime", entry));
  fields.seconds = time.seconds;
  fields.nanoseconds = time.nanoseconds;
  fields.mode = numberOf(entry.mode, "mode", entry);
  fields.uid = numberOf(entry.uid, "uid", entry, MAX_ID);
  fields.gid = numberOf(entry.gid, "gid", entry, MAX_ID);
  if (kind === KIND.symlink || kind === KIND.hardlink) fields.linkName = textOf(entry.linkName, "linkName", entry);
  else if (kind === KIND.char || kind === KIND.block) {
    fields.devMajor = numberOf(entry.devMajor, "devMajor", entry, MAX_ID);
    fields.devMinor = numberOf(entry.devMinor, "devMinor", entry, MAX_ID);
  }
  readXattrs(entry, fields);
  if (kind !== KIND.reg) return;
  fields.size = numberOf(entry.size, "size", entry);
  fields.digest = digests.add(digestOf(entry.digest, "digest", entry));
  if (fields.size > 0) readChunk(entry, fields, digests);
}

function readXattrs({ name, xattrs }: RawTocEntry, fields: TocFields): void {
  if (xattrs === undefined || xattrs === null) return;
  if (typeof xattrs !== "object" || Array.isArray(xattrs)) throw invalidEntry(name, "its xattrs are not an object");
  fields.xattrs = xattrs as Record<string, unknown>;
}

function readChunk(entry: RawTocEntry, fields: TocFields, digests: DigestTexts): void {
  fields.chunkOffset = numberOf(entry.chunkOffset, "chunkOffset", entry);
  fields.chunkSize = numberOf(entry.chunkSize, "chunkSize", entry);
  fields.zeros = readChunkType(entry);
  fields.chunkDigest = digests.add(digestOf(entry.chunkDigest, "chunkDigest", entry));
  if (fields.zeros) return;
  fields.offset = numberOf(entry.offset, "offset", entry);
  fields.innerOffset = numberOf(entry.innerOffset, "innerOffset", entry);
}

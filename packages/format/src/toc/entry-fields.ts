import { type Digest, EstargzError, isDigest } from "@estargz/interface";

/** One entry of a TOC as JSON.parse gives it: nothing is known yet of what its fields hold. */
export interface RawTocEntry {
  readonly name?: unknown;
  readonly type?: unknown;
  readonly size?: unknown;
  readonly modtime?: unknown;
  readonly linkName?: unknown;
  readonly mode?: unknown;
  readonly uid?: unknown;
  readonly gid?: unknown;
  readonly devMajor?: unknown;
  readonly devMinor?: unknown;
  readonly xattrs?: unknown;
  readonly digest?: unknown;
  readonly offset?: unknown;
  readonly innerOffset?: unknown;
  readonly chunkOffset?: unknown;
  readonly chunkSize?: unknown;
  readonly chunkDigest?: unknown;
  readonly chunkType?: unknown;
}

/** Largest owner and device number. */
export const MAX_ID = 0xffff_ffff;

const KNOWN = new Set(
  (
    "name type size modtime linkName mode uid gid userName groupName devMajor devMinor xattrs digest offset innerOffset chunkOffset " +
    "chunkSize chunkDigest NumLink endOffset accesstime changetime chunkType"
  ).split(" "),
);
const FOLDED = new Set([...KNOWN].map((name) => name.toLowerCase()));

/** Builds the error of an entry that can't be true. */
export function invalidEntry(name: unknown, reason: string): EstargzError {
  const shown = typeof name === "string" ? JSON.stringify(name.slice(0, 120)) : "without a name";
  return new EstargzError("INVALID_TOC", `TOC entry ${shown} is not valid: ${reason}`);
}

/**
 * Refuses keys that only differ in case from known ones: Go's reader takes them for the known one, so two readers of
 * the same TOC would see two layers.
 *
 * @param known - Keys of the entry before, by position. Most entries have the same ones, which needn't be looked up again; it is
 * brought up to date.
 */
export function checkKeys(entry: RawTocEntry, known: string[]): void {
  let i = 0;
  for (const key in entry) {
    if (known[i] === key) {
      i += 1;
      continue;
    }
    if (KNOWN.has(key)) {
      known[i] = key;
      i += 1;
      continue;
    }
    if (FOLDED.has(key.toUpperCase().toLowerCase())) {
      throw invalidEntry(entry.name, `its key ${JSON.stringify(key)} is taken for another by some readers`);
    }
  }
}

/** A number from 0 to `max`; 0 if it isn't there. `key` is for the error. */
export function numberOf(value: unknown, key: string, entry: RawTocEntry, max: number = Number.MAX_SAFE_INTEGER): number {
  if (value === undefined) return 0;
  if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= max) return value;
  if (value === null) return 0;
  throw invalidEntry(entry.name, `its ${key} is ${describe(value)} and not an integer from 0 to ${max}`);
}

/** A text; `""` if it isn't there. */
export function textOf(value: unknown, key: string, entry: RawTocEntry): string {
  if (typeof value === "string") return value;
  if (value === undefined || value === null) return "";
  throw invalidEntry(entry.name, `its ${key} is ${describe(value)} and not a text`);
}

/** A digest; `undefined` if it isn't there or empty. */
export function digestOf(value: unknown, key: string, entry: RawTocEntry): Digest | undefined {
  if (value === undefined || value === null || value === "") return undefined;
  if (isDigest(value)) return value;
  throw invalidEntry(entry.name, `its ${key} is ${describe(value)} and not a digest`);
}

function describe(value: unknown): string {
  return (JSON.stringify(value) ?? typeof value).slice(0, 80);
}

/** Whether an entry's chunk is a run of zeros that takes no bytes (containers/storage, `chunkType`). */
export function readChunkType(entry: RawTocEntry): boolean {
  const type = entry.chunkType;
  if (type === undefined || type === null || type === "") return false;
  if (type === "zeros") return true;
  throw invalidEntry(entry.name, `its chunkType is ${String(JSON.stringify(type)).slice(0, 40)}`);
}

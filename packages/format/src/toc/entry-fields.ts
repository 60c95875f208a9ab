import { type Digest, EstargzError, isDigest } from "@estargz/interface";
import type { RawTocEntry } from "./toc-json.ts";

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
 */
export function checkKeys(entry: RawTocEntry): void {
  for (const key in entry) {
    if (KNOWN.has(key)) continue;
    if (FOLDED.has(key.toUpperCase().toLowerCase())) {
      throw invalidEntry(entry["name"], `its key ${JSON.stringify(key)} is taken for another by some readers`);
    }
  }
}

/** A number from 0 to `max`; 0 if it isn't there. */
export function numberField(entry: RawTocEntry, key: string, max: number = Number.MAX_SAFE_INTEGER): number {
  const value = entry[key];
  if (value === undefined || value === null) return 0;
  if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= max) return value;
  throw invalidEntry(entry["name"], `its ${key} is ${describe(value)} and not an integer from 0 to ${max}`);
}

/** A text; `""` if it isn't there. */
export function textField(entry: RawTocEntry, key: string): string {
  const value = entry[key];
  if (typeof value === "string") return value;
  if (value === undefined || value === null) return "";
  throw invalidEntry(entry["name"], `its ${key} is ${describe(value)} and not a text`);
}

/** A digest; `undefined` if it isn't there or empty. */
export function digestField(entry: RawTocEntry, key: string): Digest | undefined {
  const value = entry[key];
  if (value === undefined || value === null || value === "") return undefined;
  if (isDigest(value)) return value;
  throw invalidEntry(entry["name"], `its ${key} is ${describe(value)} and not a digest`);
}

function describe(value: unknown): string {
  return (JSON.stringify(value) ?? typeof value).slice(0, 80);
}

import { asciiBytes, concatBytes } from "../bytes.ts";
import { invalidTar } from "./tar-header.ts";

/** PAX records by key; values are bytes, since those of xattrs are. */
export type PaxRecords = ReadonlyMap<string, Uint8Array>;

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();

/**
 * Reads PAX records, `length key=value\n` one after the other (POSIX pax, "pax Extended Header").
 *
 * @throws `INVALID_TAR` for anything else, and for keys that aren't UTF-8.
 */
export function parsePax(bytes: Uint8Array, position: number): Map<string, Uint8Array> {
  const records = new Map<string, Uint8Array>();
  const sparseMap: string[] = [];
  for (let at = 0; at < bytes.length; ) {
    const blank = bytes.indexOf(0x20, at);
    // Some writers pad with NULs.
    if (bytes[at] === 0) break;
    const length = blank < 0 || blank - at > 9 ? 0 : parseDecimal(bytes.subarray(at, blank));
    const end = at + length;
    const equals = bytes.indexOf(0x3d, blank);
    if (length <= 0 || end > bytes.length || bytes[end - 1] !== 0x0a || equals < 0 || equals >= end) {
      throw invalidTar("a PAX record can't be read", position + at);
    }
    const key = decodeText(bytes.subarray(blank + 1, equals), position);
    const value = bytes.subarray(equals + 1, end - 1);
    if (key === "") throw invalidTar("a PAX record has no key", position + at);
    // Sparse 0.0 repeats its keys.
    if (key === "GNU.sparse.offset" || key === "GNU.sparse.numbytes") sparseMap.push(decodeText(value, position));
    records.set(key, value);
    at = end;
  }
  if (sparseMap.length > 0) records.set("GNU.sparse.map", asciiBytes(sparseMap.join(",")));
  return records;
}

function parseDecimal(bytes: Uint8Array): number {
  let value = 0;
  for (const byte of bytes) {
    if (byte < 0x30 || byte > 0x39) return 0;
    value = value * 10 + byte - 0x30;
  }
  return value;
}

function decodeText(bytes: Uint8Array, position: number): string {
  try {
    return decoder.decode(bytes);
  } catch (error) {
    throw invalidTar(`a PAX record is not UTF-8 (${(error as Error).message})`, position);
  }
}

/** Writes PAX records, in the order of the map. */
export function encodePax(records: ReadonlyMap<string, Uint8Array | string>): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const [key, value] of records) {
    const content = concatBytes([encoder.encode(` ${key}=`), typeof value === "string" ? encoder.encode(value) : value, asciiBytes("\n")]);
    // The length counts its own digits.
    let length = content.length + 1;
    while (String(length).length + content.length !== length) length = String(length).length + content.length;
    parts.push(asciiBytes(String(length)), content);
  }
  return concatBytes(parts);
}

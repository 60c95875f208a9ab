import { EstargzError } from "@estargz/interface";
import { runtime } from "#runtime";
import { asciiBytes } from "../bytes.ts";
import type { DigestTexts } from "./digest-texts.ts";
import type { RawTocEntry } from "./entry-fields.ts";
import { EntryScanner } from "./entry-scanner.ts";
import { CLOSE_BRACKET, COMMA, countKey, endOfObject, OPEN_BRACE, skipBlank } from "./json-bytes.ts";
import { readRawEntry } from "./raw-entry.ts";
import { TocFields } from "./toc-fields.ts";

const invalid = (reason: string, cause?: unknown): EstargzError =>
  new EstargzError("INVALID_TOC", `the TOC is not valid: ${reason}`, cause === undefined ? {} : { cause });

/**
 * Parses a TOC and hands over its entries one by one, in order. Entries as known writers write them are read straight from the
 * bytes; others by JSON.parse, each by itself; and all of the text by JSON.parse if it doesn't begin as every known writer begins it.
 *
 * @param onEntry - Gets the same object at each call, filled anew.
 * @throws {@link EstargzError} `INVALID_TOC` for anything that isn't `{"version": 1, "entries": [...]}` with objects in it.
 */
export function parseTocJson(bytes: Uint8Array, digests: DigestTexts, onEntry: (entry: TocFields) => void): void {
  const fields = new TocFields();
  const keys: string[] = [];
  const takeRaw = (entry: unknown): void => {
    readRawEntry(checkEntry(entry), fields, digests, keys);
    onEntry(fields);
  };
  const start = entriesStart(bytes);
  if (start === undefined) {
    const toc = parse(decode(bytes, 0, bytes.length));
    checkOuter(toc);
    if (countKey(bytes, ENTRIES) > 1) throw invalid("it has entries twice");
    for (const entry of toc.entries) takeRaw(entry);
    return;
  }
  const scanner = new EntryScanner(bytes, fields, digests);
  let at = skipBlank(bytes, start);
  if (bytes[at] !== CLOSE_BRACKET) {
    for (;;) {
      if (bytes[at] !== OPEN_BRACE) throw invalid("an entry is not an object");
      let end = scanner.scan(at);
      if (end >= 0) onEntry(fields);
      else {
        end = endOfObject(bytes, at);
        takeRaw(parse(decode(bytes, at, end < 0 ? bytes.length : end)));
      }
      at = skipBlank(bytes, end);
      if (bytes[at] !== COMMA) break;
      at = skipBlank(bytes, at + 1);
    }
  }
  if (bytes[at] !== CLOSE_BRACKET) throw invalid("it is not JSON");
  checkRest(decode(bytes, at + 1, bytes.length));
}

/** Where the first entry starts, if the text begins as every known writer begins it. */
function entriesStart(bytes: Uint8Array): number | undefined {
  let head = "";
  for (let i = 0; i < Math.min(bytes.length, 256); i += 1) head += String.fromCharCode(bytes[i] as number);
  return /^\s*\{\s*"version"\s*:\s*1\s*,\s*"entries"\s*:\s*\[/.exec(head)?.[0].length;
}

function decode(bytes: Uint8Array, from: number, to: number): string {
  try {
    return runtime.decodeUtf8(bytes.subarray(from, to));
  } catch (error) {
    throw invalid("it is not UTF-8", error);
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw invalid("it is not JSON", error);
  }
}

const ENTRIES = asciiBytes("entries");
const SEEN = "seen";

/** Checks what follows the entries. Entries for a second time would replace the first ones, for readers who take the last of a key. */
function checkRest(text: string): void {
  const toc = parse(`{"version":1,"entries":"${SEEN}"${text}`);
  if ((toc as { entries?: unknown }).entries !== SEEN) throw invalid("it has entries twice");
  (toc as { entries: unknown }).entries = [];
  checkOuter(toc);
}

function checkOuter(toc: unknown): asserts toc is { entries: unknown[] } {
  if (typeof toc !== "object" || toc === null || Array.isArray(toc)) throw invalid("it is not an object");
  const { version, entries } = toc as Record<string, unknown>;
  if (version !== 1) throw invalid(`its version is ${JSON.stringify(version) ?? "missing"}; only version 1 is known`);
  for (const key of Object.keys(toc)) {
    const known = /^(?:version|entries)$/i.test(key);
    if (known && key !== "version" && key !== "entries")
      throw invalid(`its key ${JSON.stringify(key)} is taken for another by some readers`);
  }
  // Go writes null for a slice that was never filled.
  if (entries === null || entries === undefined) (toc as { entries: unknown[] }).entries = [];
  else if (!Array.isArray(entries)) throw invalid("its entries are not a list");
}

function checkEntry(entry: unknown): RawTocEntry {
  if (typeof entry !== "object" || entry === null || Array.isArray(entry)) throw invalid("an entry is not an object");
  return entry as RawTocEntry;
}

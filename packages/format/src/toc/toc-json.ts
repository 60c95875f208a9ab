import { EstargzError } from "@estargz/interface";
import { runtime } from "#runtime";

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

const BATCH_BYTES = 1 << 17;

const invalid = (reason: string, cause?: unknown): EstargzError =>
  new EstargzError("INVALID_TOC", `the TOC is not valid: ${reason}`, cause === undefined ? {} : { cause });

/**
 * Parses a TOC and hands over its entries one by one, in order.
 *
 * The text is parsed in batches of about 128 KiB, so that the garbage of JSON.parse stays small however big the TOC is:
 * a batch ends after a `}` that `,` and `{` follow. Where that was inside of a text or an inner object the batch isn't JSON,
 * and is made longer; a cut that parses is a right one.
 *
 * @throws {@link EstargzError} `INVALID_TOC` for anything that isn't `{"version": 1, "entries": [...]}` with objects in it.
 */
export function parseTocJson(bytes: Uint8Array, onEntry: (entry: RawTocEntry) => void): void {
  const start = entriesStart(bytes);
  if (start === undefined) {
    readWhole(bytes, onEntry);
    return;
  }
  let at = start;
  while (bytes.length - at > 2 * BATCH_BYTES) {
    const batch = nextBatch(bytes, at);
    if (batch === undefined) break;
    for (const entry of batch.entries) onEntry(checkEntry(entry));
    at = batch.next;
  }
  // The rest, with the outer object's end and whatever follows.
  const rest = parse(`{"version":1,"entries":[${decode(bytes, at, bytes.length)}`);
  checkOuter(rest);
  for (const entry of rest.entries) onEntry(checkEntry(entry));
}

/** Where the first entry starts, if the text begins as every known writer begins it. */
function entriesStart(bytes: Uint8Array): number | undefined {
  let head = "";
  for (let i = 0; i < Math.min(bytes.length, 256); i += 1) head += String.fromCharCode(bytes[i] as number);
  return /^\s*\{\s*"version"\s*:\s*1\s*,\s*"entries"\s*:\s*\[/.exec(head)?.[0].length;
}

const OPEN = 0x7b;
const CLOSE = 0x7d;
const COMMA = 0x2c;
const isBlank = (byte: number | undefined): boolean => byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;

function nextBatch(bytes: Uint8Array, from: number): { entries: unknown[]; next: number } | undefined {
  let tries = 0;
  for (let wanted = from + BATCH_BYTES; ; ) {
    const close = bytes.indexOf(CLOSE, wanted);
    if (close < 0) return undefined;
    let after = close + 1;
    while (isBlank(bytes[after])) after += 1;
    if (bytes[after] === COMMA && opensObject(bytes, after + 1)) {
      const entries = tryParse(bytes, from, close + 1);
      if (entries !== undefined) return { entries, next: after + 1 };
      tries += 1;
      // Each wrong guess costs a parse: after a few of them the rest is parsed in one go.
      if (tries >= 4) return undefined;
    }
    wanted = close + 1;
  }
}

function opensObject(bytes: Uint8Array, from: number): boolean {
  let at = from;
  while (isBlank(bytes[at])) at += 1;
  return bytes[at] === OPEN;
}

function tryParse(bytes: Uint8Array, from: number, to: number): unknown[] | undefined {
  try {
    const parsed: unknown = JSON.parse(`[${decode(bytes, from, to)}]`);
    return Array.isArray(parsed) ? parsed : undefined;
  } catch {
    return undefined;
  }
}

function readWhole(bytes: Uint8Array, onEntry: (entry: RawTocEntry) => void): void {
  const toc = parse(decode(bytes, 0, bytes.length));
  checkOuter(toc);
  for (const entry of toc.entries) onEntry(checkEntry(entry));
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

import { runtime } from "#runtime";
import { asciiBytes, hasBytesAt } from "../bytes.ts";
import { type DigestTexts, SHA256_TEXT_BYTES } from "./digest-texts.ts";
import { MAX_ID } from "./entry-fields.ts";
import { CLOSE_BRACE, COLON, COMMA, DIGIT_0, endOfPlain, isHex, OPEN_BRACE, QUOTE, sameBytes, skipBlank } from "./json-bytes.ts";
import { CHUNK, KIND } from "./kind.ts";
import { cleanPath } from "./path.ts";
import { parseRfc3339, type Timestamp } from "./rfc3339.ts";
import type { TocFields } from "./toc-fields.ts";

/** Keys that are read, by number; those from `userName` on are passed over. */
const KEY = {
  name: 0,
  type: 1,
  size: 2,
  modtime: 3,
  linkName: 4,
  mode: 5,
  uid: 6,
  gid: 7,
  devMajor: 8,
  devMinor: 9,
  xattrs: 10,
  digest: 11,
  offset: 12,
  innerOffset: 13,
  chunkOffset: 14,
  chunkSize: 15,
  chunkDigest: 16,
  chunkType: 17,
  userName: 18,
  groupName: 19,
  accesstime: 20,
  changetime: 21,
  NumLink: 22,
  endOffset: 23,
} as const;
/** The keys with the quote behind them: how long they are, and their first, second and last four bytes. None has more than twelve. */
const KEYS = Object.keys(KEY).map((key) => asciiBytes(`${key}"`));
const KEY_BYTES = Uint8Array.from(KEYS, (key) => key.length);
const KEY_WORDS = 3;
const KEY_HEADS = Uint32Array.from(
  KEYS.flatMap((key) => {
    const view = new DataView(key.buffer);
    return [view.getUint32(0), key.length > 8 ? view.getUint32(4) : 0, view.getUint32(key.length - 4)];
  }),
);
const TYPES: readonly { readonly bytes: Uint8Array; readonly kind: TocFields["kind"] }[] = Object.entries({
  ...KIND,
  chunk: CHUNK,
} as const).map(([name, kind]) => ({ bytes: asciiBytes(name), kind }));
const SHA256 = asciiBytes("sha256:");
const ZEROS = asciiBytes("zeros");
/** Longer texts are left to JSON.parse. */
const MAX_TEXT_BYTES = 4096;
const EPOCH: Timestamp = { seconds: 0, nanoseconds: 0 };
const SLASH = 0x2f;

/**
 * Reads entries as every known writer writes them straight from the TOC's bytes: known keys, texts of plain ASCII, whole
 * numbers. That spares the objects and texts that JSON.parse would make, of which nearly none is needed.
 */
export class EntryScanner {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #fields: TocFields;
  readonly #digests: DigestTexts;
  readonly #textAt: (from: number, to: number) => string;
  /** Keys of the entry before, by position: most entries have the same ones. */
  readonly #keys: number[] = [];
  #nameFrom = -1;
  #nameTo = -1;
  #hasKind = false;
  #digestAt = -1;
  #chunkDigestAt = -1;
  // Neighbours mostly have the same time and the same xattrs: what stood there, and what it means.
  #timeFrom = 0;
  #timeTo = 0;
  #time: Timestamp = EPOCH;
  #xattrsFrom = 0;
  #xattrsTo = 0;
  #xattrs: TocFields["xattrs"];

  constructor(bytes: Uint8Array, fields: TocFields, digests: DigestTexts) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#fields = fields;
    this.#digests = digests;
    this.#textAt = runtime.asciiReader(bytes);
  }

  /**
   * Reads the entry whose brace is at `start` into the fields.
   *
   * @returns The place after the entry; -1 if it isn't plain, which says nothing about whether it is right.
   */
  scan(start: number): number {
    const bytes = this.#bytes;
    this.#fields.clear();
    this.#nameFrom = -1;
    this.#hasKind = false;
    this.#digestAt = -1;
    this.#chunkDigestAt = -1;
    let at = skipBlank(bytes, start + 1);
    for (let position = 0; bytes[at] === QUOTE; position += 1) {
      const key = this.#readKey(at + 1, position);
      if (key < 0) return -1;
      at = skipBlank(bytes, at + 1 + (KEY_BYTES[key] as number));
      if (bytes[at] !== COLON) return -1;
      at = this.#readValue(key, skipBlank(bytes, at + 1));
      if (at < 0) return -1;
      at = skipBlank(bytes, at);
      if (bytes[at] === CLOSE_BRACE) return this.#finish() ? at + 1 : -1;
      if (bytes[at] !== COMMA) return -1;
      at = skipBlank(bytes, at + 1);
    }
    return -1;
  }

  /** Number of the key whose first letter is at `at`; -1 for unknown ones. */
  #readKey(at: number, position: number): number {
    const before = this.#keys[position] ?? 0;
    if (this.#isKey(before, at)) return before;
    for (let key = 0; key < KEY_BYTES.length; key += 1) {
      if (!this.#isKey(key, at)) continue;
      this.#keys[position] = key;
      return key;
    }
    return -1;
  }

  /** Compares four bytes at a time: the quote behind it makes even the shortest key so long. */
  #isKey(key: number, at: number): boolean {
    const length = KEY_BYTES[key] as number;
    const view = this.#view;
    if (at + length > view.byteLength) return false;
    const words = key * KEY_WORDS;
    return (
      view.getUint32(at) === KEY_HEADS[words] &&
      view.getUint32(at + length - 4) === KEY_HEADS[words + 2] &&
      (length <= 8 || view.getUint32(at + 4) === KEY_HEADS[words + 1])
    );
  }

  /** Reads a value; gives the place after it, or -1. */
  #readValue(key: number, at: number): number {
    const bytes = this.#bytes;
    const first = bytes[at] as number;
    if (first === QUOTE) {
      if (key === KEY.digest || key === KEY.chunkDigest) return this.#readDigest(key, at + 1);
      const known = at + 1 + this.#timeTo - this.#timeFrom;
      if (key === KEY.modtime && bytes[known] === QUOTE && this.#isSameTime(at + 1)) return known + 1;
      const to = endOfPlain(bytes, at + 1);
      return bytes[to] === QUOTE && to - at <= MAX_TEXT_BYTES && this.#takeText(key, at + 1, to) ? to + 1 : -1;
    }
    if (first === OPEN_BRACE) return key === KEY.xattrs ? this.#readXattrs(at) : -1;
    let value = first - DIGIT_0;
    if (!(value >= 0 && value <= 9)) return -1;
    let to = at + 1;
    for (let digit = (bytes[to] as number) - DIGIT_0; digit >= 0 && digit <= 9; digit = (bytes[to] as number) - DIGIT_0) {
      value = value * 10 + digit;
      to += 1;
    }
    // JSON has no leading zeros; of so many digits a double holds each.
    if (to - at > 15 || (first === DIGIT_0 && to - at > 1)) return -1;
    return this.#takeNumber(key, value) ? to : -1;
  }

  #takeText(key: number, from: number, to: number): boolean {
    switch (key) {
      case KEY.name:
        this.#nameFrom = from;
        this.#nameTo = to;
        return true;
      case KEY.type:
        return this.#takeType(from, to);
      case KEY.modtime:
        this.#takeTime(from, to);
        return true;
      case KEY.linkName:
        this.#fields.linkName = this.#textAt(from, to);
        return true;
      case KEY.chunkType:
        this.#fields.zeros = to - from === ZEROS.length;
        return to === from || hasBytesAt(this.#bytes, from, ZEROS);
      default:
        return key >= KEY.userName && key <= KEY.changetime;
    }
  }

  #takeType(from: number, to: number): boolean {
    for (const { bytes, kind } of TYPES) {
      if (to - from !== bytes.length || !hasBytesAt(this.#bytes, from, bytes)) continue;
      this.#fields.kind = kind;
      this.#hasKind = true;
      return true;
    }
    return false;
  }

  /** Whether the time of the entry before stands here as well. */
  #isSameTime(from: number): boolean {
    const length = this.#timeTo - this.#timeFrom;
    if (length === 0 || !sameBytes(this.#view, from, this.#timeFrom, length)) return false;
    this.#fields.seconds = this.#time.seconds;
    this.#fields.nanoseconds = this.#time.nanoseconds;
    return true;
  }

  #takeTime(from: number, to: number): void {
    this.#timeFrom = from;
    this.#timeTo = to;
    this.#time = parseRfc3339(this.#textAt(from, to));
    this.#fields.seconds = this.#time.seconds;
    this.#fields.nanoseconds = this.#time.nanoseconds;
  }

  #readDigest(key: number, from: number): number {
    const bytes = this.#bytes;
    const to = from + SHA256_TEXT_BYTES;
    if (bytes[to] !== QUOTE) return -1;
    // Most files have one chunk, and its digest twice.
    const before = this.#digestAt;
    const isKnown = before >= 0 && sameBytes(this.#view, before, from, SHA256_TEXT_BYTES);
    if (!isKnown && !(hasBytesAt(bytes, from, SHA256) && isHex(bytes, from + SHA256.length, to))) return -1;
    if (key === KEY.digest) this.#digestAt = from;
    else this.#chunkDigestAt = from;
    return to + 1;
  }

  #takeNumber(key: number, value: number): boolean {
    const fields = this.#fields;
    switch (key) {
      case KEY.size:
        fields.size = value;
        return true;
      case KEY.mode:
        fields.mode = value;
        return true;
      case KEY.uid:
        fields.uid = value;
        return value <= MAX_ID;
      case KEY.gid:
        fields.gid = value;
        return value <= MAX_ID;
      case KEY.devMajor:
        fields.devMajor = value;
        return value <= MAX_ID;
      case KEY.devMinor:
        fields.devMinor = value;
        return value <= MAX_ID;
      case KEY.offset:
        fields.offset = value;
        return true;
      case KEY.innerOffset:
        fields.innerOffset = value;
        return true;
      case KEY.chunkOffset:
        fields.chunkOffset = value;
        return true;
      case KEY.chunkSize:
        fields.chunkSize = value;
        return true;
      default:
        return key >= KEY.NumLink;
    }
  }

  /** Reads an object of texts. */
  #readXattrs(start: number): number {
    const bytes = this.#bytes;
    const length = this.#xattrsTo - this.#xattrsFrom;
    if (length > 0 && sameBytes(this.#view, start, this.#xattrsFrom, length)) {
      this.#fields.xattrs = this.#xattrs;
      return start + length;
    }
    const xattrs: Record<string, unknown> = {};
    let at = skipBlank(bytes, start + 1);
    while (bytes[at] === QUOTE) {
      const nameTo = endOfPlain(bytes, at + 1);
      const colon = skipBlank(bytes, nameTo + 1);
      const value = skipBlank(bytes, colon + 1);
      const to = endOfPlain(bytes, value + 1);
      const isPlain = bytes[nameTo] === QUOTE && bytes[colon] === COLON && bytes[value] === QUOTE && bytes[to] === QUOTE;
      if (!isPlain || to - at > MAX_TEXT_BYTES) return -1;
      const name = this.#textAt(at + 1, nameTo);
      if (name === "__proto__") return -1;
      xattrs[name] = this.#textAt(value + 1, to);
      at = skipBlank(bytes, to + 1);
      if (bytes[at] === CLOSE_BRACE) {
        this.#xattrsFrom = start;
        this.#xattrsTo = at + 1;
        this.#xattrs = xattrs;
        this.#fields.xattrs = xattrs;
        return at + 1;
      }
      if (bytes[at] !== COMMA) return -1;
      at = skipBlank(bytes, at + 1);
    }
    return -1;
  }

  /** Makes the path and the digests; false if something is missing, which JSON.parse's way has the words for. */
  #finish(): boolean {
    const fields = this.#fields;
    if (!this.#hasKind) return false;
    if (this.#chunkDigestAt >= 0) fields.chunkDigest = this.#digests.at(this.#chunkDigestAt);
    if (fields.kind === CHUNK) return true;
    if (this.#nameFrom < 0) return false;
    const isFolder = this.#bytes[this.#nameTo - 1] === SLASH && this.#bytes[this.#nameTo - 2] !== SLASH;
    fields.path = cleanPath(this.#textAt(this.#nameFrom, isFolder ? this.#nameTo - 1 : this.#nameTo));
    fields.isPlain = true;
    if (fields.kind !== KIND.reg) fields.size = 0;
    else if (this.#digestAt >= 0) fields.digest = this.#digests.at(this.#digestAt);
    return true;
  }
}

import { hasBytesAt } from "../bytes.ts";

// What a JSON text is made of, looked at as bytes (RFC 8259).
export const QUOTE = 0x22;
export const COLON = 0x3a;
export const COMMA = 0x2c;
export const OPEN_BRACE = 0x7b;
export const CLOSE_BRACE = 0x7d;
export const CLOSE_BRACKET = 0x5d;
const OPEN_BRACKET = 0x5b;
export const DIGIT_0 = 0x30;
const BACKSLASH = 0x5c;

/** 1 for the ASCII characters that stand for themselves in a string. */
const PLAIN = Uint8Array.from({ length: 256 }, (_, byte) => (byte >= 0x20 && byte < 0x7f && byte !== QUOTE && byte !== BACKSLASH ? 1 : 0));
const BLANK = Uint8Array.from({ length: 256 }, (_, byte) => (byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09 ? 1 : 0));
const HEX = Uint8Array.from({ length: 256 }, (_, byte) => ((byte >= 0x30 && byte < 0x3a) || (byte >= 0x61 && byte < 0x67) ? 1 : 0));

/** The first place from `at` on that is no blank. */
export function skipBlank(bytes: Uint8Array, at: number): number {
  let end = at;
  while (BLANK[bytes[end] as number] === 1) end += 1;
  return end;
}

/** The first place from `at` on that isn't a character that stands for itself. */
export function endOfPlain(bytes: Uint8Array, at: number): number {
  let end = at;
  while (PLAIN[bytes[end] as number] === 1) end += 1;
  return end;
}

/** Whether lower-case hexadecimal digits fill a range. */
export function isHex(bytes: Uint8Array, from: number, to: number): boolean {
  for (let at = from; at < to; at += 1) if (HEX[bytes[at] as number] !== 1) return false;
  return true;
}

/** Whether two places have the same bytes; false where one of them reaches past the end. */
export function sameBytes(view: DataView, a: number, b: number, length: number): boolean {
  if (Math.max(a, b) + length > view.byteLength) return false;
  let i = 0;
  for (; i + 4 <= length; i += 4) if (view.getUint32(a + i) !== view.getUint32(b + i)) return false;
  for (; i < length; i += 1) if (view.getUint8(a + i) !== view.getUint8(b + i)) return false;
  return true;
}

/** The quote that ends the string whose first character is at `at`; the end of the bytes if there is none. */
function endOfString(bytes: Uint8Array, at: number): number {
  let end = endOfPlain(bytes, at);
  while (end < bytes.length && bytes[end] !== QUOTE) end = endOfPlain(bytes, end + (bytes[end] === BACKSLASH ? 2 : 1));
  return Math.min(end, bytes.length);
}

/** How often an object has a key, written without escapes; not looking into its values. */
export function countKey(bytes: Uint8Array, key: Uint8Array): number {
  let depth = 0;
  let count = 0;
  for (let at = 0; at < bytes.length; at += 1) {
    const byte = bytes[at];
    if (byte === OPEN_BRACE || byte === OPEN_BRACKET) depth += 1;
    else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) depth -= 1;
    else if (byte === QUOTE) {
      const end = endOfString(bytes, at + 1);
      const isKey = depth === 1 && end - at - 1 === key.length && hasBytesAt(bytes, at + 1, key);
      if (isKey && bytes[skipBlank(bytes, end + 1)] === COLON) count += 1;
      at = end;
    }
  }
  return count;
}

/** Where the object that starts at `at` ends, if it is one: after its last brace. -1 if it has none. */
export function endOfObject(bytes: Uint8Array, start: number): number {
  let depth = 0;
  for (let at = start; at < bytes.length; at += 1) {
    const byte = bytes[at];
    if (byte === OPEN_BRACE) depth += 1;
    else if (byte === CLOSE_BRACE) {
      depth -= 1;
      if (depth === 0) return at + 1;
    } else if (byte === QUOTE) at = endOfString(bytes, at + 1);
  }
  return -1;
}

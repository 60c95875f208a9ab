import { EstargzError } from "@estargz/interface";

/** Bytes of a tar block. */
export const BLOCK_BYTES = 512;

/** One 512-byte header block as it stands there, without PAX records or long names. */
export interface RawHeader {
  readonly name: Uint8Array;
  readonly linkName: Uint8Array;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtime: number;
  /** The type flag as a character; `"\0"` for the oldest tars. */
  readonly type: string;
  readonly userName: Uint8Array;
  readonly groupName: Uint8Array;
  readonly devMajor: number;
  readonly devMinor: number;
  readonly isGnu: boolean;
}

/** Builds an `INVALID_TAR` error. */
export function invalidTar(reason: string, position: number): EstargzError {
  return new EstargzError("INVALID_TAR", `the tar is damaged at byte ${position}: ${reason}`, { details: { position } });
}

/** Whether a block is all zeros: half of an end mark. */
export function isZeroBlock(block: Uint8Array): boolean {
  for (const byte of block) if (byte !== 0) return false;
  return true;
}

/**
 * Reads a header block (POSIX pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format").
 *
 * @throws {@link EstargzError} `INVALID_TAR` for a wrong checksum or numbers that can't be read.
 */
export function parseRawHeader(block: Uint8Array, position: number): RawHeader {
  checkChecksum(block, position);
  const number = (offset: number, length: number, what: string): number => parseNumber(block, offset, length, what, position);
  const magic = String.fromCharCode(...block.subarray(257, 265));
  const isPosix = magic.startsWith("ustar\0");
  const isGnu = magic === "ustar  \0";
  const hasNames = isPosix || isGnu;
  const name = cString(block, 0, 100);
  const prefix = isPosix ? cString(block, 345, isStar(block) ? 131 : 155) : new Uint8Array(0);
  return {
    name: prefix.length === 0 ? name : joinPrefix(prefix, name),
    linkName: cString(block, 157, 100),
    mode: number(100, 8, "mode"),
    uid: number(108, 8, "uid"),
    gid: number(116, 8, "gid"),
    size: number(124, 12, "size"),
    mtime: number(136, 12, "mtime"),
    type: String.fromCharCode(block[156] as number),
    userName: hasNames ? cString(block, 265, 32) : new Uint8Array(0),
    groupName: hasNames ? cString(block, 297, 32) : new Uint8Array(0),
    devMajor: hasNames ? number(329, 8, "devmajor") : 0,
    devMinor: hasNames ? number(337, 8, "devminor") : 0,
    isGnu,
  };
}

function isStar(block: Uint8Array): boolean {
  return block[508] === 0x74 && block[509] === 0x61 && block[510] === 0x72 && block[511] === 0;
}

function joinPrefix(prefix: Uint8Array, name: Uint8Array): Uint8Array {
  const joined = new Uint8Array(prefix.length + 1 + name.length);
  joined.set(prefix);
  joined[prefix.length] = 0x2f;
  joined.set(name, prefix.length + 1);
  return joined;
}

function cString(block: Uint8Array, offset: number, length: number): Uint8Array {
  const field = block.subarray(offset, offset + length);
  const end = field.indexOf(0);
  return end < 0 ? field : field.subarray(0, end);
}

function checkChecksum(block: Uint8Array, position: number): void {
  const stored = parseNumber(block, 148, 8, "checksum", position);
  let unsigned = 0;
  let signed = 0;
  for (let i = 0; i < BLOCK_BYTES; i += 1) {
    const byte = i >= 148 && i < 156 ? 0x20 : (block[i] as number);
    unsigned += byte;
    signed += byte > 127 ? byte - 256 : byte;
  }
  if (stored !== unsigned && stored !== signed) throw invalidTar("the checksum of a header does not match", position);
}

/** Reads an octal or base-256 number of a header field. */
export function parseNumber(block: Uint8Array, offset: number, length: number, what: string, position: number): number {
  const first = block[offset] as number;
  if ((first & 0x80) !== 0) return parseBase256(block, offset, length, what, position);
  let text = "";
  for (let i = offset; i < offset + length; i += 1) text += String.fromCharCode(block[i] as number);
  const digits = /^[ \0]*([0-7]*)[ \0]*/.exec(text);
  const rest = text.slice(digits?.[0].length ?? 0);
  // Some writers leave garbage after the terminator; what is before it holds.
  if (digits === null || (rest !== "" && !/[ \0]/.test(text.slice(0, text.length - rest.length).slice(-1)))) {
    throw invalidTar(`the ${what} of a header is not an octal number`, position);
  }
  return digits[1] === "" ? 0 : Number.parseInt(digits[1] as string, 8);
}

function parseBase256(block: Uint8Array, offset: number, length: number, what: string, position: number): number {
  const negative = ((block[offset] as number) & 0x40) !== 0;
  let value = 0n;
  for (let i = offset; i < offset + length; i += 1) {
    const byte = i === offset ? (block[i] as number) & 0x7f : (block[i] as number);
    value = (value << 8n) | BigInt(byte);
  }
  const result = Number(negative ? BigInt.asIntN(length * 8 - 1, value) : value);
  if (!Number.isSafeInteger(result)) throw invalidTar(`the ${what} of a header is beyond 2^53`, position);
  return result;
}

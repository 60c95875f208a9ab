import { EstargzError } from "@estargz/interface";

/** Header of the gzip members that we write: no time, no name, unknown system (RFC 1952, 2.3). */
export const GZIP_HEADER: Uint8Array = Uint8Array.of(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff);
/** CRC-32 and ISIZE after the deflate data of a member. */
export const GZIP_TRAILER_BYTES = 8;

const FHCRC = 2;
const FEXTRA = 4;
const FNAME = 8;
const FCOMMENT = 16;

/**
 * Length of the gzip header at `offset` (RFC 1952, 2.3).
 *
 * @throws {@link EstargzError} `INVALID_COMPRESSION` where no complete header stands.
 */
export function gzipHeaderLength(bytes: Uint8Array, offset: number): number {
  const flags = bytes[offset + 3];
  if (
    flags === undefined ||
    bytes.length < offset + 10 ||
    bytes[offset] !== 0x1f ||
    bytes[offset + 1] !== 0x8b ||
    bytes[offset + 2] !== 8
  ) {
    throw new EstargzError("INVALID_COMPRESSION", `no gzip member starts at byte ${offset} of ${bytes.length}`);
  }
  let at = offset + 10;
  if ((flags & FEXTRA) !== 0) at += 2 + ((bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8));
  for (const flag of [FNAME, FCOMMENT]) {
    if ((flags & flag) === 0) continue;
    const end = at < bytes.length ? bytes.indexOf(0, at) : -1;
    at = end < 0 ? bytes.length + 1 : end + 1;
  }
  if ((flags & FHCRC) !== 0) at += 2;
  if (at > bytes.length) throw new EstargzError("INVALID_COMPRESSION", `the gzip header at byte ${offset} is cut off`);
  return at - offset;
}

/** Builds the error of damaged or truncated compressed data. */
export function invalidCompression(format: string, reason: string, cause?: unknown): EstargzError {
  return new EstargzError("INVALID_COMPRESSION", `${format} data is damaged: ${reason}`, cause === undefined ? {} : { cause });
}

import { GZIP_TRAILER_BYTES, gzipHeaderLength, invalidCompression } from "./gzip-header.ts";

/** A raw inflater that is fed and drained by hand. */
export interface RawInflater {
  /** Starts a new deflate stream. */
  reset(): void;
  /** Inflates from `input` at `inputOffset` into `output` from `outputOffset` to its end. Throws for damaged data. */
  run(
    input: Uint8Array,
    inputOffset: number,
    output: Uint8Array,
    outputOffset: number,
  ): { consumed: number; produced: number; ended: boolean };
}

/**
 * Gives output bytes `skip` to `skip + length` of the gzip members in `bytes`, and stops there.
 * The CRC isn't looked at: the digest of a chunk says more.
 */
export function inflateMembers(inflater: RawInflater, bytes: Uint8Array, length: number, skip: number): Uint8Array {
  if (length === 0) return new Uint8Array(0);
  // What is skipped goes through a small window, so that memory follows `length` alone.
  const window = skip > 0 ? new Uint8Array(Math.min(skip, 1 << 16)) : undefined;
  const output = new Uint8Array(length);
  let skipped = 0;
  let written = 0;
  let at = gzipHeaderLength(bytes, 0);
  inflater.reset();
  for (;;) {
    const skipping = window !== undefined && skipped < skip;
    const target = skipping ? window.subarray(0, Math.min(window.length, skip - skipped)) : output;
    const result = inflater.run(bytes, at, target, skipping ? 0 : written);
    at += result.consumed;
    if (skipping) skipped += result.produced;
    else written += result.produced;
    if (written === length) return output;
    if (result.ended) {
      at += GZIP_TRAILER_BYTES;
      if (at >= bytes.length) throw invalidCompression("gzip", `it ends after ${skipped + written} of ${skip + length} bytes`);
      at += gzipHeaderLength(bytes, at);
      inflater.reset();
    } else if (result.produced === 0 && at >= bytes.length) {
      throw invalidCompression("gzip", `it ends after ${skipped + written} of ${skip + length} bytes`);
    } else if (result.produced === 0 && result.consumed === 0) {
      throw invalidCompression("gzip", "it makes no progress");
    }
  }
}

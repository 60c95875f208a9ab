import { invalidCompression } from "./gzip-header.ts";

/** Largest window that a zstd frame may ask for: what `zstd -d` allows by default (RFC 8878, 3.1.1.1.2). */
export const MAX_ZSTD_WINDOW_BYTES: number = 1 << 27;
/** The same where fzstd decodes: it moves its whole window for each block. */
export const PORTABLE_WINDOW_BYTES: number = 1 << 25;

/**
 * Memory that decoding the frame at `offset` takes, from its header (RFC 8878, 3.1.1.1); 0 for a skippable frame.
 *
 * @throws `INVALID_COMPRESSION` where no complete frame header stands.
 */
export function zstdWindowBytes(bytes: Uint8Array, offset: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < offset + 6) throw invalidCompression("zstd", "its frame header is cut off");
  const magic = view.getUint32(offset, true);
  if (magic >>> 4 === 0x184d2a5) return 0;
  if (magic !== 0xfd2fb528) throw invalidCompression("zstd", `no frame starts at byte ${offset} of ${bytes.length}`);
  const descriptor = bytes[offset + 4] as number;
  const single = (descriptor & 0x20) !== 0;
  if (!single) {
    const window = bytes[offset + 5] as number;
    const base = 2 ** (10 + (window >> 3));
    return base + (base / 8) * (window & 7);
  }
  const sizeFlag = descriptor >> 6;
  const at = offset + 5 + ([0, 1, 2, 4][descriptor & 3] as number);
  const sizeBytes = [1, 2, 4, 8][sizeFlag] as number;
  if (bytes.length < at + sizeBytes) throw invalidCompression("zstd", "its frame header is cut off");
  if (sizeBytes === 1) return bytes[at] as number;
  if (sizeBytes === 2) return view.getUint16(at, true) + 256;
  if (sizeBytes === 4) return view.getUint32(at, true);
  return view.getUint32(at + 4, true) * 0x1_0000_0000 + view.getUint32(at, true);
}

/**
 * Cuts zstd data into its frames, one after the other as they are asked for; what is behind the last one asked for is not looked at.
 * A frame that is cut off is given as far as it goes.
 *
 * @throws `INVALID_COMPRESSION` where no frame starts, or one asks for a larger window, or all together ask for more than the budget.
 */
export function* splitZstdFrames(bytes: Uint8Array, maxWindowBytes: number, maxWindowsBytes: number): Iterable<Uint8Array> {
  let budget = maxWindowsBytes;
  for (let at = 0; at < bytes.length; ) {
    const window = zstdWindowBytes(bytes, at);
    budget -= window;
    if (window > maxWindowBytes || budget < 0) throw invalidCompression("zstd", `its frames ask for windows of ${window} bytes and more`);
    const end = frameEnd(bytes, at);
    yield bytes.subarray(at, end);
    at = end;
  }
}

/** Where the frame at `offset` ends, by its blocks (RFC 8878, 3.1.1.2); the end of the bytes if it is cut off. */
function frameEnd(bytes: Uint8Array, offset: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(offset, true) !== 0xfd2fb528) {
    return bytes.length < offset + 8 ? bytes.length : Math.min(bytes.length, offset + 8 + view.getUint32(offset + 4, true));
  }
  const descriptor = bytes[offset + 4] as number;
  const single = (descriptor & 0x20) !== 0;
  const sizeBytes = [single ? 1 : 0, 2, 4, 8][descriptor >> 6] as number;
  let at = offset + 5 + (single ? 0 : 1) + ([0, 1, 2, 4][descriptor & 3] as number) + sizeBytes;
  while (at + 3 <= bytes.length) {
    const header = (bytes[at] as number) | ((bytes[at + 1] as number) << 8) | ((bytes[at + 2] as number) << 16);
    at += 3 + (((header >> 1) & 3) === 1 ? 1 : header >> 3);
    if ((header & 1) !== 0) return Math.min(bytes.length, at + ((descriptor & 4) !== 0 ? 4 : 0));
  }
  return bytes.length;
}

import { invalidCompression } from "./gzip-header.ts";

/** Largest window that a zstd frame may ask for: what `zstd -d` allows by default (RFC 8878, 3.1.1.1.2). */
export const MAX_ZSTD_WINDOW_BYTES: number = 1 << 27;

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

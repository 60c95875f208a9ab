import { createRequire } from "node:module";
import type koffiModule from "koffi";

/** Most output that is kept room for between calls. */
const MAX_KEPT_BYTES = 32 * 1024 * 1024;
/** A member may hold this much behind the wanted bytes (padding, headers of directories) and still be decoded here. */
const MAX_TRAILING_BYTES = 1024 * 1024;
const TRAILER_BYTES = 8;

/** Decompresses whole gzip members quicker than zlib, where the machine has libdeflate. */
export interface WholeMemberInflater {
  /**
   * Gives the first `length` bytes of the member that `bytes` is, valid until the next call; `undefined` when it is no
   * whole member, or damaged: then zlib has to look.
   */
  inflate(bytes: Uint8Array, length: number): Uint8Array | undefined;
}

/** Loads libdeflate; `undefined` where there is none. */
export function loadLibdeflate(): WholeMemberInflater | undefined {
  try {
    const koffi = createRequire(import.meta.url)("koffi") as typeof koffiModule;
    const library = koffi.load("libdeflate.so.0");
    const allocate = library.func("void *libdeflate_alloc_decompressor()") as () => unknown;
    const decompress = library.func(
      "int libdeflate_gzip_decompress_ex(void *decompressor, const void *in, size_t in_bytes, void *out, size_t out_room, void *in_used, void *out_used)",
    ) as (
      decompressor: unknown,
      input: Uint8Array,
      inputBytes: number,
      output: Uint8Array,
      room: number,
      used: BigUint64Array,
      made: BigUint64Array,
    ) => number;
    const decompressor = allocate();
    if (decompressor === null) return undefined;
    const used = new BigUint64Array(1);
    const made = new BigUint64Array(1);
    let output = Buffer.allocUnsafeSlow(64 * 1024);
    return {
      inflate(bytes, length) {
        const size = memberSize(bytes);
        if (size === undefined || size < length || size > length + MAX_TRAILING_BYTES) return undefined;
        if (size > output.length) output = Buffer.allocUnsafeSlow(Math.ceil(size / 65_536) * 65_536);
        const room = output;
        if (room.length > MAX_KEPT_BYTES) output = Buffer.allocUnsafeSlow(64 * 1024);
        const status = decompress(decompressor, bytes, bytes.length, room, size, used, made);
        return status === 0 && Number(made[0]) >= length ? room.subarray(0, length) : undefined;
      },
    };
  } catch {
    return undefined;
  }
}

/** Uncompressed size of a gzip member, as its last bytes say. */
function memberSize(bytes: Uint8Array): number | undefined {
  if (bytes.length < 18 || bytes[0] !== 0x1f || bytes[1] !== 0x8b) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset + bytes.length - TRAILER_BYTES, TRAILER_BYTES);
  return view.getUint32(4, true);
}

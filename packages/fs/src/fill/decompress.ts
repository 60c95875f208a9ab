import { defaultCodecs } from "@estargz/format";

/**
 * Gives the first `length` bytes of the member at the start of `bytes`; what follows is left alone.
 *
 * @throws `INVALID_COMPRESSION`
 */
export function decompressMember(bytes: Uint8Array, length: number, compression: "gzip" | "zstd"): Uint8Array {
  return defaultCodecs[compression].decode(bytes, length);
}

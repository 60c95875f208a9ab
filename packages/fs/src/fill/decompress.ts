import { defaultCodecs } from "@estargz/format";
import { loadLibdeflate, type WholeMemberInflater } from "./libdeflate.ts";

/** Decompresses members of a blob. One for each thread: its output is reused. */
export interface MemberDecompressor {
  /**
   * Gives the first `length` bytes of the member at the start of `bytes`; what follows is left alone.
   * The result is valid until the next call.
   *
   * @throws `INVALID_COMPRESSION`
   */
  decompress(bytes: Uint8Array, length: number, compression: "gzip" | "zstd"): Uint8Array;
}

/** Makes a decompressor; with `native` it uses libdeflate for gzip where the machine has it. */
export function createMemberDecompressor(native: boolean): MemberDecompressor {
  const libdeflate: WholeMemberInflater | undefined = native ? loadLibdeflate() : undefined;
  return {
    decompress: (bytes, length, compression) =>
      (compression === "gzip" ? libdeflate?.inflate(bytes, length) : undefined) ?? defaultCodecs[compression].decode(bytes, length),
  };
}

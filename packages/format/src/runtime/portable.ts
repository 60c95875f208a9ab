import { sha256 } from "@noble/hashes/sha2.js";
import { deflateRaw } from "pako";
import { concatBytes, hexOf } from "../bytes.ts";
import { crc32 } from "./crc32.ts";
import { GZIP_HEADER, invalidCompression } from "./gzip-header.ts";
import { createMemorySpool } from "./memory-spool.ts";
import { portableGzip, portableZstd } from "./portable-codecs.ts";
import { portableDecompress } from "./portable-decompress.ts";
import type { Runtime } from "./runtime.ts";

/** Builds a gzip member around deflate data: our header, CRC-32 and size (RFC 1952, 2.3). */
export function gzipMember(deflated: Uint8Array, crc: number, size: number): Uint8Array {
  const member = new Uint8Array(GZIP_HEADER.length + deflated.length + 8);
  member.set(GZIP_HEADER);
  member.set(deflated, GZIP_HEADER.length);
  const view = new DataView(member.buffer);
  view.setUint32(member.length - 8, crc, true);
  view.setUint32(member.length - 4, size >>> 0, true);
  return member;
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Runs anywhere: pako, fzstd and @noble/hashes. */
export const runtime: Runtime = {
  name: "portable",
  sha256: (bytes) => hexOf(sha256(bytes)),
  createSha256() {
    const hash = sha256.create();
    return { update: (bytes) => void hash.update(bytes), hex: () => hexOf(hash.digest()) };
  },
  decodeUtf8: (bytes) => decoder.decode(bytes),
  asciiReader: (bytes) => (from, to) => String.fromCharCode(...bytes.subarray(from, to)),
  gzip: portableGzip,
  zstd: portableZstd,
  createCompressor(format, level) {
    if (format === "zstd") return undefined;
    return {
      compress(parts) {
        const bytes = parts.length === 1 ? (parts[0] as Uint8Array) : concatBytes(parts);
        const deflated: Uint8Array | undefined = deflateRaw(bytes, { level });
        if (deflated === undefined) throw invalidCompression("gzip", "pako gave no output");
        return gzipMember(deflated, crc32(bytes), bytes.length);
      },
    };
  },
  decompress: portableDecompress,
  defaultThreads: 1,
  createSpool: createMemorySpool,
};

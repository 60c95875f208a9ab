import { hash } from "node:crypto";
import { constants, crc32, createDeflateRaw, zstdCompressSync } from "node:zlib";
import { concatBytes } from "../bytes.ts";
import { GZIP_HEADER, GZIP_TRAILER_BYTES, invalidCompression } from "../runtime/gzip-header.ts";
import type { MemberCompressor } from "../runtime/runtime.ts";
import { openZlibHandle } from "./zlib-handle.ts";

/** SHA-256 as lower-case hexadecimal text. */
export function sha256(bytes: Uint8Array): string {
  return hash("sha256", bytes, "hex");
}

/** Compresses members with node:zlib; `undefined` if this Node's zlib has another shape. */
export function createNodeCompressor(format: "gzip" | "zstd", level: number): MemberCompressor | undefined {
  return format === "gzip" ? createGzipCompressor(level) : createZstdCompressor(level);
}

/** One deflate context, reset for each member: making one costs more than compressing a small file. */
function createGzipCompressor(level: number): MemberCompressor | undefined {
  const handle = openZlibHandle(createDeflateRaw({ level, memLevel: 9 }));
  if (handle === undefined) return undefined;
  let scratch = new Uint8Array(1 << 16);
  return {
    compress(parts) {
      const bytes = parts.length === 1 ? (parts[0] as Uint8Array) : concatBytes(parts);
      handle.reset();
      let at = GZIP_HEADER.length;
      let from = 0;
      for (;;) {
        if (scratch.length - at < 1 << 12) scratch = grow(scratch, at);
        const left = handle.write(constants.Z_FINISH, bytes, from, bytes.length - from, scratch, at, scratch.length - at);
        if (left === undefined) throw invalidCompression("gzip", handle.error ?? "deflate failed");
        at = scratch.length - left.output;
        from = bytes.length - left.input;
        if (left.output > 0 && left.input === 0) break;
      }
      const member = new Uint8Array(at + GZIP_TRAILER_BYTES);
      member.set(scratch.subarray(0, at));
      member.set(GZIP_HEADER);
      const view = new DataView(member.buffer);
      view.setUint32(at, crc32(bytes), true);
      view.setUint32(at + 4, bytes.length >>> 0, true);
      return member;
    },
  };
}

function grow(bytes: Uint8Array, used: number): Uint8Array<ArrayBuffer> {
  const grown = new Uint8Array(bytes.length * 2);
  grown.set(bytes.subarray(0, used));
  return grown;
}

// A reset loses the parameters of node's zstd context, so each frame gets one of its own.
function createZstdCompressor(level: number): MemberCompressor {
  const params = { [constants.ZSTD_c_compressionLevel]: level, [constants.ZSTD_c_checksumFlag]: 1 };
  return {
    compress(parts) {
      const bytes = parts.length === 1 ? (parts[0] as Uint8Array) : concatBytes(parts);
      const frame = zstdCompressSync(bytes, { params, chunkSize: Math.max(1024, Math.min(bytes.length + 1024, 1 << 22)) });
      return new Uint8Array(frame.buffer, frame.byteOffset, frame.byteLength);
    },
  };
}

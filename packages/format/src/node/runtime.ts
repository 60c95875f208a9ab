import { createHash, hash } from "node:crypto";
import { Readable } from "node:stream";
import { constants, crc32, createDeflateRaw, createGunzip, createInflateRaw, createZstdCompress, createZstdDecompress } from "node:zlib";
import type { Codec } from "@estargz/interface";
import { GZIP_HEADER, GZIP_TRAILER_BYTES, invalidCompression } from "../runtime/gzip-header.ts";
import { inflateMembers, type RawInflater } from "../runtime/inflate-members.ts";
import { runtime as portable } from "../runtime/portable.ts";
import type { MemberCompressor, Runtime } from "../runtime/runtime.ts";
import { openZlibHandle, type ZlibHandle } from "./zlib-handle.ts";

// zlib contexts are kept and reset: making one costs more than inflating a small file. All use is synchronous.
let inflateHandle: ZlibHandle | undefined;
let zstdHandle: ZlibHandle | undefined;

const inflater: RawInflater = {
  reset() {
    inflateHandle ??= openZlibHandle(createInflateRaw());
    inflateHandle?.reset();
  },
  run(input, inputOffset, output, outputOffset) {
    const handle = inflateHandle as ZlibHandle;
    const inputLength = Math.max(0, input.length - inputOffset);
    const outputLength = output.length - outputOffset;
    const left = handle.write(constants.Z_NO_FLUSH, input, inputOffset, inputLength, output, outputOffset, outputLength);
    if (left === undefined) {
      inflateHandle = undefined;
      throw invalidCompression("gzip", handle.error ?? "inflate failed");
    }
    const consumed = inputLength - left.input;
    const produced = outputLength - left.output;
    // zlib says nothing about the end of the stream here; it stops early with both input and room left.
    return { consumed, produced, ended: left.output > 0 && left.input > 0 };
  },
};

const gzip: Codec = {
  name: "gzip",
  decode: (bytes, length, options) => inflateMembers(inflater, bytes, length, options?.skip ?? 0),
};

const zstd: Codec = {
  name: "zstd",
  decode(bytes, length, options) {
    if (length === 0) return new Uint8Array(0);
    zstdHandle ??= openZlibHandle(createZstdDecompress());
    const handle = zstdHandle as ZlibHandle;
    handle.reset();
    const skip = options?.skip ?? 0;
    const window = skip > 0 ? new Uint8Array(Math.min(skip, 1 << 16)) : undefined;
    const output = new Uint8Array(length);
    let at = 0;
    let skipped = 0;
    let written = 0;
    while (written < length) {
      const skipping = window !== undefined && skipped < skip;
      const target = skipping ? window : output;
      const from = skipping ? 0 : written;
      const room = skipping ? Math.min(window.length, skip - skipped) : length - written;
      const left = handle.write(constants.ZSTD_e_continue, bytes, at, bytes.length - at, target, from, room);
      if (left === undefined) {
        zstdHandle = undefined;
        throw invalidCompression("zstd", handle.error ?? "decompression failed");
      }
      const produced = room - left.output;
      const consumed = bytes.length - at - left.input;
      at += consumed;
      if (skipping) skipped += produced;
      else written += produced;
      if (produced === 0 && (consumed === 0 || at >= bytes.length)) {
        throw invalidCompression("zstd", `it ends after ${skipped + written} of ${skip + length} bytes`);
      }
    }
    return output;
  },
};

/** Whether this Node still has the zlib handle that exact and reusable decoding is built on; pako and fzstd stand in without it. */
function hasHandles(): boolean {
  return openZlibHandle(createInflateRaw()) !== undefined && openZlibHandle(createZstdDecompress()) !== undefined;
}

/** Compresses with one context that is reset for each member. */
function createHandleCompressor(format: "gzip" | "zstd", level: number): MemberCompressor | undefined {
  const handle = openZlibHandle(
    format === "gzip"
      ? createDeflateRaw({ level, memLevel: 9 })
      : createZstdCompress({ params: { [constants.ZSTD_c_compressionLevel]: level, [constants.ZSTD_c_checksumFlag]: 1 } }),
  );
  if (handle === undefined) return undefined;
  const finish = format === "gzip" ? constants.Z_FINISH : constants.ZSTD_e_end;
  const proceed = format === "gzip" ? constants.Z_NO_FLUSH : constants.ZSTD_e_continue;
  const head = format === "gzip" ? GZIP_HEADER.length : 0;
  const tail = format === "gzip" ? GZIP_TRAILER_BYTES : 0;
  let scratch = new Uint8Array(1 << 16);
  return {
    compress(parts) {
      handle.reset();
      let at = head;
      let size = 0;
      let crc = 0;
      for (let i = 0; i < parts.length; i += 1) {
        const part = parts[i] as Uint8Array;
        const flush = i === parts.length - 1 ? finish : proceed;
        if (format === "gzip") crc = crc32(part, crc);
        size += part.length;
        let from = 0;
        for (;;) {
          if (scratch.length - at < 1 << 12) scratch = grow(scratch);
          const left = handle.write(flush, part, from, part.length - from, scratch, at, scratch.length - at);
          if (left === undefined) throw invalidCompression(format, handle.error ?? "compression failed");
          at = scratch.length - left.output;
          from = part.length - left.input;
          if (left.output > 0 && left.input === 0) break;
        }
      }
      const member = new Uint8Array(at + tail);
      member.set(scratch.subarray(0, at));
      if (format === "gzip") {
        member.set(GZIP_HEADER);
        const view = new DataView(member.buffer);
        view.setUint32(at, crc, true);
        view.setUint32(at + 4, size >>> 0, true);
      }
      return member;
    },
  };
}

function grow(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const grown = new Uint8Array(bytes.length * 2);
  grown.set(bytes);
  return grown;
}

async function* decompress(format: "gzip" | "zstd", source: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  const stream = format === "gzip" ? createGunzip({ chunkSize: 1 << 17 }) : createZstdDecompress({ chunkSize: 1 << 17 });
  const input = Readable.from(source, { objectMode: false });
  let sourceError: unknown;
  input.on("error", (error) => {
    sourceError = error;
    stream.destroy(error);
  });
  input.pipe(stream);
  let empty = true;
  input.once("data", () => {
    empty = false;
  });
  try {
    for await (const piece of stream) yield piece as Uint8Array;
    if (empty) throw invalidCompression(format, "it is empty");
  } catch (error) {
    if (sourceError !== undefined) throw sourceError;
    const code = (error as { code?: unknown }).code;
    if (typeof code === "string" && /^(Z_|ZSTD_|ERR_)/.test(code) && !code.startsWith("ERR_STREAM_DESTROYED")) {
      throw invalidCompression(format, (error as Error).message, error);
    }
    throw error;
  } finally {
    input.destroy();
    stream.destroy();
  }
}

/** Node: node:zlib and node:crypto. */
const node: Runtime = {
  name: "node",
  sha256: (bytes) => hash("sha256", bytes, "hex"),
  createSha256() {
    const running = createHash("sha256");
    return { update: (bytes) => void running.update(bytes), hex: () => running.digest("hex") };
  },
  gzip: hasHandles() ? gzip : portable.gzip,
  zstd: hasHandles() ? zstd : portable.zstd,
  createCompressor: (format, level) => createHandleCompressor(format, level) ?? portable.createCompressor(format, level),
  decompress,
};

export { node as runtime };

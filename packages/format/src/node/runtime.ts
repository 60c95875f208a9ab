import { isAscii, isUtf8 } from "node:buffer";
import { createHash } from "node:crypto";
import { availableParallelism } from "node:os";
import { Readable } from "node:stream";
import { constants, createGunzip, createInflateRaw, createZstdDecompress } from "node:zlib";
import type { Codec } from "@estargz/interface";
import { invalidCompression } from "../runtime/gzip-header.ts";
import { inflateMembers, type RawInflater } from "../runtime/inflate-members.ts";
import { runtime as portable } from "../runtime/portable.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { createNodeCompressor, sha256 } from "./compressor.ts";
import { createFileSpool } from "./file-spool.ts";
import { createThreadPool } from "./thread-pool.ts";
import { openZlibHandle, type ZlibHandle } from "./zlib-handle.ts";
import { decompressZstd } from "./zstd-stream.ts";

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

async function* gunzip(source: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  const stream = createGunzip({ chunkSize: 1 << 17 });
  let sourceError: { error: unknown } | undefined;
  let empty = true;
  async function* watched(): AsyncIterable<Uint8Array> {
    try {
      for await (const bytes of source) {
        empty &&= bytes.length === 0;
        yield bytes;
      }
    } catch (error) {
      sourceError = { error };
      throw error;
    }
  }
  const input = Readable.from(watched(), { objectMode: false });
  input.on("error", (error) => stream.destroy(error));
  input.pipe(stream);
  try {
    for await (const piece of stream) yield piece as Uint8Array;
  } catch (error) {
    if (sourceError !== undefined) throw sourceError.error;
    const code = (error as { code?: unknown }).code;
    if (typeof code === "string" && code.startsWith("Z_")) throw invalidCompression("gzip", (error as Error).message, error);
    throw error;
  } finally {
    input.destroy();
    stream.destroy();
  }
  if (empty) throw invalidCompression("gzip", "it is empty");
}

/** Node: node:zlib and node:crypto. */
const node: Runtime = {
  name: "node",
  sha256,
  createSha256() {
    const running = createHash("sha256");
    return { update: (bytes) => void running.update(bytes), hex: () => running.digest("hex") };
  },
  decodeUtf8(bytes) {
    // Several times as fast as TextDecoder.
    const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (isAscii(buffer)) return buffer.toString("latin1");
    if (!isUtf8(buffer)) throw new TypeError("these bytes are not UTF-8");
    return buffer.toString("utf8");
  },
  asciiReader(bytes) {
    const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const { latin1Slice } = buffer as { latin1Slice?: (from: number, to: number) => string };
    // What toString calls in the end; half of the time that a short text takes is the way there.
    return latin1Slice === undefined ? (from, to) => buffer.toString("latin1", from, to) : (from, to) => latin1Slice.call(buffer, from, to);
  },
  gzip: hasHandles() ? gzip : portable.gzip,
  zstd: hasHandles() ? zstd : portable.zstd,
  createCompressor: (format, level) => createNodeCompressor(format, level) ?? portable.createCompressor(format, level),
  decompress: (format, source) => (format === "gzip" ? gunzip(source) : decompressZstd(source)),
  defaultThreads: availableParallelism(),
  createPool: createThreadPool,
  createSpool: createFileSpool,
};

export { node as runtime };

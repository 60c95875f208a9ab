import { isEstargzError } from "@estargz/interface";
import { Decompress } from "fzstd";
import { concatBytes } from "../bytes.ts";
import { crc32 } from "./crc32.ts";
import { GZIP_TRAILER_BYTES, gzipHeaderLength, invalidCompression } from "./gzip-header.ts";
import { createPakoInflater } from "./portable-codecs.ts";
import { PORTABLE_WINDOW_BYTES } from "./zstd-frame.ts";
import { ZstdFrames } from "./zstd-frames.ts";

const OUTPUT_BYTES = 1 << 16;
const MAX_HEADER_BYTES = 1 << 17;

/** Streams what gzip members or zstd frames hold, with pako or fzstd. */
export function portableDecompress(format: "gzip" | "zstd", source: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  return format === "gzip" ? gunzip(source) : unzstd(source);
}

/** A buffer in front of a source: bytes wait in it until a header or trailer is complete. */
class Pending {
  bytes: Uint8Array = new Uint8Array(0);
  readonly #source: AsyncIterator<Uint8Array>;
  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }
  /** Takes in one more piece; false at the end. */
  async more(): Promise<boolean> {
    const next = await this.#source.next();
    if (next.done === true) return false;
    this.bytes = this.bytes.length === 0 ? next.value : concatBytes([this.bytes, next.value]);
    return true;
  }
  async close(): Promise<void> {
    await this.#source.return?.();
  }
}

async function* gunzip(source: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  const pending = new Pending(source);
  const inflater = createPakoInflater();
  try {
    for (let members = 0; ; members += 1) {
      while (pending.bytes.length === 0) if (!(await pending.more())) return endOfMembers(members);
      // Zeros after the last member are padding, as in gzip(1).
      if (members > 0 && pending.bytes[0] === 0) return;
      // In two steps: the header may bring more bytes in.
      const length = await headerLength(pending);
      pending.bytes = pending.bytes.subarray(length);
      yield* inflateMember(pending, inflater);
    }
  } finally {
    await pending.close();
  }
}

function endOfMembers(members: number): void {
  if (members === 0) throw invalidCompression("gzip", "it is empty");
}

async function headerLength(pending: Pending): Promise<number> {
  for (;;) {
    try {
      return gzipHeaderLength(pending.bytes, 0);
    } catch (error) {
      const isPrefix = pending.bytes.length < 3 || (pending.bytes[0] === 0x1f && pending.bytes[1] === 0x8b);
      if (!isPrefix || pending.bytes.length > MAX_HEADER_BYTES || !(await pending.more())) throw error;
    }
  }
}

async function* inflateMember(pending: Pending, inflater: ReturnType<typeof createPakoInflater>): AsyncIterable<Uint8Array> {
  inflater.reset();
  let crc = 0;
  let size = 0;
  for (;;) {
    const output = new Uint8Array(OUTPUT_BYTES);
    const result = inflater.run(pending.bytes, 0, output, 0);
    pending.bytes = pending.bytes.subarray(result.consumed);
    if (result.produced > 0) {
      const piece = output.subarray(0, result.produced);
      crc = crc32(piece, crc);
      size = (size + piece.length) >>> 0;
      yield piece;
    }
    if (result.ended) break;
    if (result.produced < OUTPUT_BYTES && !(await pending.more())) throw invalidCompression("gzip", "it is cut off");
  }
  while (pending.bytes.length < GZIP_TRAILER_BYTES) if (!(await pending.more())) throw invalidCompression("gzip", "it is cut off");
  const view = new DataView(pending.bytes.buffer, pending.bytes.byteOffset, GZIP_TRAILER_BYTES);
  if (view.getUint32(0, true) !== crc || view.getUint32(4, true) !== size) throw invalidCompression("gzip", "a checksum does not match");
  pending.bytes = pending.bytes.subarray(GZIP_TRAILER_BYTES);
}

async function* unzstd(source: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  let pieces: Uint8Array[] = [];
  const stream = new Decompress((piece) => {
    // fzstd reuses its window.
    if (piece.length > 0) pieces.push(piece.slice());
  });
  const frames = new ZstdFrames(PORTABLE_WINDOW_BYTES);
  try {
    for await (const chunk of source) {
      frames.push(chunk);
      // In slices: what one push gives waits in memory.
      for (let at = 0; at < chunk.length; at += OUTPUT_BYTES) {
        stream.push(chunk.subarray(at, at + OUTPUT_BYTES));
        yield* pieces;
        pieces = [];
      }
    }
    frames.end();
    stream.push(new Uint8Array(0), true);
    yield* pieces;
  } catch (error) {
    if (isEstargzError(error) || !(error instanceof Error) || !("code" in error) || typeof error.code !== "number") throw error;
    throw invalidCompression("zstd", error.message, error);
  }
}

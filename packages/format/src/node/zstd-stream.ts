import { constants, createZstdDecompress } from "node:zlib";
import { EstargzError } from "@estargz/interface";
import { invalidCompression } from "../runtime/gzip-header.ts";
import { ZstdFrames } from "../runtime/zstd-frames.ts";
import { openZlibHandle, type ZlibHandle } from "./zlib-handle.ts";

const OUTPUT_BYTES = 1 << 17;
const INPUT_BYTES = 1 << 16;

/** Streams what zstd frames hold, one after the other; node's own stream stops after the first. */
export async function* decompressZstd(source: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  const stream = createZstdDecompress();
  const handle = openZlibHandle(stream);
  if (handle === undefined) throw new EstargzError("UNSUPPORTED", "this Node's zstd has another shape");
  const frames = new ZstdFrames();
  try {
    for await (const bytes of source) {
      frames.push(bytes);
      for (let at = 0; at < bytes.length; at += INPUT_BYTES) yield* drain(handle, bytes.subarray(at, at + INPUT_BYTES));
    }
    frames.end();
  } finally {
    stream.destroy();
  }
}

function* drain(handle: ZlibHandle, input: Uint8Array): Iterable<Uint8Array> {
  for (let from = 0; ; ) {
    const output = new Uint8Array(OUTPUT_BYTES);
    const left = handle.write(constants.ZSTD_e_continue, input, from, input.length - from, output, 0, OUTPUT_BYTES);
    if (left === undefined) throw invalidCompression("zstd", handle.error ?? "decompression failed");
    from = input.length - left.input;
    if (left.output < OUTPUT_BYTES) yield output.subarray(0, OUTPUT_BYTES - left.output);
    // A full output may have left more behind.
    if (left.input === 0 && left.output > 0) return;
  }
}

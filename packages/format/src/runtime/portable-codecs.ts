import type { Codec } from "@estargz/interface";
import { EstargzError, isEstargzError } from "@estargz/interface";
import { Decompress } from "fzstd";
import { Z_BUF_ERROR, Z_NO_FLUSH, Z_OK, Z_STREAM_END, ZStream, zlibInflate, zlibInflateInit2, zlibInflateReset } from "pako";
import { invalidCompression } from "./gzip-header.ts";
import { inflateMembers, type RawInflater } from "./inflate-members.ts";
import { PORTABLE_WINDOW_BYTES, splitZstdFrames } from "./zstd-frame.ts";

/** A raw inflater made of pako's low-level interface. */
export function createPakoInflater(): RawInflater {
  const stream = new ZStream();
  if (zlibInflateInit2(stream, -15) !== Z_OK) throw new EstargzError("UNSUPPORTED", "pako could not start an inflate stream");
  return {
    reset() {
      stream.avail_in = 0;
      zlibInflateReset(stream);
    },
    run(input, inputOffset, output, outputOffset) {
      stream.input = input;
      stream.next_in = inputOffset;
      stream.avail_in = Math.max(0, input.length - inputOffset);
      stream.output = output as Uint8Array<ArrayBuffer>;
      stream.next_out = outputOffset;
      stream.avail_out = output.length - outputOffset;
      const status = zlibInflate(stream, Z_NO_FLUSH);
      if (status !== Z_OK && status !== Z_STREAM_END && status !== Z_BUF_ERROR) {
        throw invalidCompression("gzip", stream.msg === "" ? `inflate status ${status}` : stream.msg);
      }
      return { consumed: stream.next_in - inputOffset, produced: stream.next_out - outputOffset, ended: status === Z_STREAM_END };
    },
  };
}

/** gzip by pako: runs anywhere. */
export const portableGzip: Codec = {
  name: "gzip",
  decode: (bytes, length, options) => inflateMembers(createPakoInflater(), bytes, length, options?.skip ?? 0),
};

/** Memory that all frames of one call may ask for together, besides what their content is worth: a frame of a few bytes may ask for much. */
const MAX_WINDOWS_BYTES = 128 << 20;
const DONE = Symbol("enough output");

/** zstd by fzstd: runs anywhere. Frames that ask for a window above 32 MiB are refused. */
export const portableZstd: Codec = {
  name: "zstd",
  decode(bytes, length, options) {
    if (length === 0) return new Uint8Array(0);
    const skip = options?.skip ?? 0;
    const output = new Uint8Array(length);
    let seen = 0;
    const stream = new Decompress((piece) => {
      const from = Math.max(0, skip - seen);
      if (from < piece.length) {
        const at = seen + from - skip;
        output.set(piece.subarray(from, Math.min(piece.length, from + length - at)), at);
      }
      seen += piece.length;
      // There is no other way to stop it.
      if (seen >= skip + length) throw DONE;
    });
    try {
      for (const frame of splitZstdFrames(bytes, PORTABLE_WINDOW_BYTES, MAX_WINDOWS_BYTES + 16 * (skip + length))) stream.push(frame);
      stream.push(new Uint8Array(0), true);
    } catch (error) {
      if (error === DONE) return output;
      if (isEstargzError(error)) throw error;
      throw invalidCompression("zstd", `${(error as Error).message} after ${seen} of ${skip + length} bytes`, error);
    }
    throw invalidCompression("zstd", `it ends after ${seen} of ${skip + length} bytes`);
  },
};

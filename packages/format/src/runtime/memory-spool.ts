import { EstargzError } from "@estargz/interface";
import type { Spool } from "./runtime.ts";

const MAX_BYTES = 1 << 30;

/** Keeps up to 1 GiB in memory. */
export function createMemorySpool(): Spool {
  let pieces: { readonly offset: number; readonly bytes: Uint8Array }[] = [];
  let size = 0;
  return {
    async write(bytes) {
      if (size + bytes.length > MAX_BYTES)
        throw new EstargzError("LIMIT_EXCEEDED", "a tar above 1 GiB can't be put in another order here; in Node it can");
      pieces.push({ offset: size, bytes: bytes.slice() });
      size += bytes.length;
    },
    async read(offset, length) {
      const result = new Uint8Array(length);
      let low = 0;
      let high = pieces.length - 1;
      while (low < high) {
        const middle = (low + high + 1) >>> 1;
        if ((pieces[middle]?.offset ?? 0) <= offset) low = middle;
        else high = middle - 1;
      }
      let at = 0;
      for (let i = low; at < length && i < pieces.length; i += 1) {
        const piece = pieces[i] as (typeof pieces)[number];
        const part = piece.bytes.subarray(offset + at - piece.offset, offset + length - piece.offset);
        result.set(part, at);
        at += part.length;
      }
      if (at < length) throw new EstargzError("OUT_OF_RANGE", `can't read ${length} bytes at ${offset} of ${size} that were kept`);
      return result;
    },
    async close() {
      pieces = [];
    },
  };
}

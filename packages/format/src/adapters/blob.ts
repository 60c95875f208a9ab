import type { ReaderAt } from "@estargz/interface";
import { readerFromRead } from "./memory.ts";

/** Reads a `Blob` or `File`, as a browser's file input, `fetch` or `fs.openAsBlob` gives it. */
export function fromBlob(blob: Blob): ReaderAt {
  return readerFromRead(blob.size, async (offset, length) => new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer()));
}

import { open } from "node:fs/promises";
import { EstargzError, type ReaderAt } from "@estargz/interface";
import { readerFromRead } from "../adapters/memory.ts";

/**
 * Opens a local file as a blob. Close it when done.
 *
 * @throws {@link EstargzError} `NOT_FOUND` if there is none, `IO_ERROR` otherwise.
 */
export async function openFile(path: string): Promise<ReaderAt> {
  try {
    const file = await open(path, "r");
    const { size } = await file.stat();
    return readerFromRead(
      size,
      async (offset, length) => {
        const bytes = new Uint8Array(length);
        let at = 0;
        while (at < length) {
          const { bytesRead } = await file.read(bytes, at, length - at, offset + at);
          if (bytesRead === 0) break;
          at += bytesRead;
        }
        return bytes.subarray(0, at);
      },
      () => file.close(),
    );
  } catch (error) {
    const missing = (error as { code?: unknown }).code === "ENOENT";
    throw new EstargzError(missing ? "NOT_FOUND" : "IO_ERROR", `can't open ${path}: ${(error as Error).message}`, { cause: error });
  }
}

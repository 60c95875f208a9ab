import { type FileHandle, open } from "node:fs/promises";
import { EstargzError, type ReaderAt } from "@estargz/interface";
import { readerFromRead } from "../adapters/memory.ts";
import { guardFile } from "./file-error.ts";

/**
 * Opens a local file as a blob. Close it when done.
 *
 * @throws {@link EstargzError} `NOT_FOUND` if there is none, `IO_ERROR` otherwise.
 */
export async function openFile(path: string): Promise<ReaderAt> {
  const file = await guardFile(path, open(path, "r"));
  try {
    const stats = await guardFile(path, file.stat());
    if (!stats.isFile()) throw new EstargzError("IO_ERROR", `can't read ${path}: it is no regular file`);
    return readerFromRead(
      stats.size,
      (offset, length) => guardFile(path, readFully(file, offset, length)),
      () => file.close(),
    );
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function readFully(file: FileHandle, offset: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  let at = 0;
  while (at < length) {
    const { bytesRead } = await file.read(bytes, at, length - at, offset + at);
    if (bytesRead === 0) break;
    at += bytesRead;
  }
  return bytes.subarray(0, at);
}

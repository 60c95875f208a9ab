import { closeSync, existsSync, ftruncateSync, mkdirSync, openSync, renameSync, writeFileSync } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { EstargzError } from "@estargz/interface";
import { dataFilePath } from "../data-file-path.ts";
import type { LayerIndex } from "../layer-index.ts";
import { bitmapBytes } from "./bits.ts";

/** Longer indexes are written by the thread pool. */
export const LARGE_INDEX_BYTES: number = 1024 * 1024;
/** Files made between two turns of the event loop. */
const FILES_AT_ONCE = 256;

/** Makes the folder of a layer; `ownFiles` are the inodes with a backing file each. */
export type MakeLayerFolder = (directory: string, index: LayerIndex, ownFiles: readonly number[]) => Promise<void>;

/**
 * Makes a layer's folder: the packed index, an empty bitmap, sparse files. Synchronous but for large layers, because turns of the
 * thread pool take longer than the calls: meant for a thread that nobody waits for.
 *
 * @throws `NO_SPACE`, `IO_ERROR`
 */
export const makeLayerFolder: MakeLayerFolder = async (directory, index, ownFiles) => {
  // Built beside and renamed: a folder that exists is whole.
  const building = `${directory}.new`;
  try {
    if (existsSync(building)) await rm(building, { recursive: true, force: true });
    mkdirSync(building, { recursive: true, mode: 0o700 });
    const bytes = new Uint8Array(index.buffer);
    if (bytes.length > LARGE_INDEX_BYTES) await writeFile(join(building, "index"), bytes);
    else writeFileSync(join(building, "index"), bytes);
    writeFileSync(join(building, "bitmap"), new Uint8Array(bitmapBytes(index.chunkCount)));
    makeSparse(join(building, "data"), index.dataBytes);
    for (const [at, inode] of ownFiles.entries()) {
      if (at % FILES_AT_ONCE === FILES_AT_ONCE - 1) await setImmediate();
      makeSparse(dataFilePath(join(building, "data"), index, inode), index.size(inode));
    }
    if (existsSync(directory)) await rm(directory, { recursive: true, force: true });
    renameSync(building, directory);
  } catch (error) {
    await rm(building, { recursive: true, force: true }).catch(() => undefined);
    throw storeError(error, directory);
  }
};

function makeSparse(path: string, size: number): void {
  const file = openSync(path, "wx+", 0o600);
  try {
    ftruncateSync(file, size);
  } finally {
    closeSync(file);
  }
}

function storeError(error: unknown, directory: string): EstargzError {
  const code = typeof error === "object" && error !== null && "code" in error ? String(error.code) : "";
  const full = code === "ENOSPC" || code === "EDQUOT";
  return new EstargzError(
    full ? "NO_SPACE" : "IO_ERROR",
    `cannot keep layer data in ${directory} (${code}): free some space or check that it can be written to`,
    {
      cause: error,
    },
  );
}

import { type FileHandle, open } from "node:fs/promises";
import { dataFilePath } from "../data-file-path.ts";
import type { DriverLayer } from "../driver.ts";

const MAX_OPEN = 64;

/** Reads local data of layers through the thread pool. */
export class LocalReader {
  readonly #open = new Map<string, Promise<FileHandle>>();

  /** Whether every chunk of a range is local. */
  isLocal(layer: DriverLayer, inode: number, offset: number, length: number): boolean {
    const { index } = layer;
    const bitmap = new Uint8Array(layer.store.bitmap);
    const first = index.chunkAt(inode, offset);
    const last = index.chunkAt(inode, offset + length - 1);
    if (first < 0) return false;
    for (let chunk = first; chunk <= last; chunk++) if ((((bitmap[chunk >>> 3] ?? 0) >>> (chunk & 7)) & 1) === 0) return false;
    return true;
  }

  /** Reads a range that is local; false when it is not after all. */
  async read(layer: DriverLayer, inode: number, offset: number, target: Uint8Array): Promise<boolean> {
    try {
      const file = await this.#file(dataFilePath(layer.store.dataPath, layer.index, inode));
      const { bytesRead } = await file.read(target, 0, target.length, layer.index.dataOffset(inode) + offset);
      return bytesRead === target.length && this.isLocal(layer, inode, offset, target.length);
    } catch {
      return false;
    }
  }

  async #file(path: string): Promise<FileHandle> {
    let file = this.#open.get(path);
    if (file === undefined) {
      if (this.#open.size >= MAX_OPEN) await this.close();
      file = open(path, "r");
      this.#open.set(path, file);
      file.catch(() => this.#open.delete(path));
    }
    return file;
  }

  /** Closes the files. */
  async close(): Promise<void> {
    const files = [...this.#open.values()];
    this.#open.clear();
    await Promise.allSettled(files.map(async (file) => (await file).close()));
  }
}

import { open } from "node:fs/promises";
import { setTimeout } from "node:timers/promises";
import type { Driver, DriverLayer, DriverStatistics } from "../src/index.ts";
import { dataFilePath } from "../src/index.ts";
import { hasBit } from "../src/store/bits.ts";

/** A driver without a kernel: reads as a real one does, local data first, the rest through `fetch`. */
export class FakeDriver implements Driver {
  readonly name = "dev-fuse";
  readonly layers: Map<number, DriverLayer> = new Map();
  misses = 0;
  isReady = false;
  /** How long showing and hiding take. */
  turnMs = 0;

  async attach(layer: DriverLayer): Promise<string> {
    await setTimeout(this.turnMs);
    this.layers.set(layer.number, layer);
    return `/fake/${layer.number}`;
  }

  async ready(): Promise<void> {
    this.isReady = true;
  }

  exactPath(): undefined {
    return undefined;
  }

  async detach(number: number): Promise<void> {
    await setTimeout(this.turnMs);
    this.layers.delete(number);
  }

  statistics(): DriverStatistics {
    return { requests: {}, misses: this.misses, errors: 0 };
  }

  async close(): Promise<void> {
    this.layers.clear();
  }

  /** Inode of a path under a layer's directory. */
  find(directory: string, path: string): { layer: DriverLayer; inode: number } {
    const layer = this.layers.get(Number(directory.split("/").at(-1)));
    if (layer === undefined) throw new Error(`no layer at ${directory}`);
    let inode = 0;
    for (const name of path.split("/")) inode = layer.index.lookup(inode, Buffer.from(name));
    if (inode < 0) throw new Error(`no ${path}`);
    return { layer, inode };
  }

  async read(
    directory: string,
    path: string,
    offset = 0,
    length?: number,
    signal: AbortSignal = new AbortController().signal,
  ): Promise<Buffer> {
    const { layer, inode } = this.find(directory, path);
    const { index, store } = layer;
    const wanted = Math.max(0, Math.min(length ?? Number.POSITIVE_INFINITY, index.size(inode) - offset));
    if (wanted === 0) return Buffer.alloc(0);
    const words = new Int32Array(store.bitmap);
    const isLocal = (): boolean => {
      for (let chunk = index.chunkAt(inode, offset); chunk <= index.chunkAt(inode, offset + wanted - 1); chunk++)
        if (!hasBit(words, chunk)) return false;
      return true;
    };
    for (let attempt = 0; attempt < 5; attempt++) {
      if (isLocal()) {
        const bytes = Buffer.alloc(wanted);
        const got = await open(dataFilePath(store.dataPath, index, inode), "r").then(
          async (file) => {
            const { bytesRead } = await file.read(bytes, 0, wanted, index.dataOffset(inode) + offset);
            await file.close();
            return bytesRead;
          },
          () => -1,
        );
        if (got === wanted && isLocal()) return bytes;
      }
      this.misses++;
      const given = await layer.fetch(inode, offset, wanted, signal);
      if (given !== undefined) return Buffer.from(given);
    }
    throw new Error("the bytes do not stay");
  }
}

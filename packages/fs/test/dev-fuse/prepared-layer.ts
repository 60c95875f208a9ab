import { closeSync, existsSync, mkdirSync, openSync, readFileSync, readSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type DriverLayer, dataFilePath, loadLayerIndex } from "../../src/index.ts";
import type { TestEntry } from "../memory-layer.ts";
import { makeDriverLayer } from "./driver-layer.ts";

/** Writes a layer's index and all of its data, for processes that open it. */
export function prepareLayer(folder: string, entries: readonly TestEntry[]): void {
  mkdirSync(folder, { recursive: true });
  const { index } = makeDriverLayer({ number: 0, entries, directory: folder });
  writeFileSync(join(folder, "index"), new Uint8Array(index.buffer));
}

/** How a prepared layer behaves. */
export interface PreparedOptions {
  /** All bytes are there from the beginning. Otherwise each process fetches them anew. */
  readonly local: boolean;
  /** Longest time that a fetch takes. */
  readonly delayMs: number;
  /** While this file exists, fetches wait. */
  readonly gate?: string | undefined;
}

/** Opens a layer that was prepared, as a process does after a restart. */
export function openPrepared(folder: string, number: number, options: PreparedOptions): DriverLayer {
  const bytes = readFileSync(join(folder, "index"));
  const buffer = new SharedArrayBuffer(bytes.length);
  new Uint8Array(buffer).set(bytes);
  const index = loadLayerIndex(buffer);
  const origin = join(folder, "layer-0");
  const bitmap = new SharedArrayBuffer((index.chunkCount + 7) >> 3);
  const bits = new Uint8Array(bitmap);
  const store = (dataPath: string): DriverLayer["store"] => ({
    dataPath,
    bitmap,
    backingPath: (inode) => (options.local && index.hasOwnFile(inode) ? dataFilePath(dataPath, index, inode) : undefined),
  });
  if (options.local) {
    bits.fill(255);
    const state = index.firstChunk(index.stateFile);
    bits[state >> 3] = (bits[state >> 3] ?? 0) & ~(1 << (state & 7));
    return { number, index, store: store(origin), fetch: async (_, __, length) => Buffer.alloc(length, 0x20) };
  }
  const dataPath = join(folder, `cache-${number}-${process.pid}`);
  rmSync(dataPath, { force: true });
  return {
    number,
    index,
    store: store(dataPath),
    async fetch(inode, offset, length, signal) {
      await sleep(Math.random() * options.delayMs, undefined, { signal });
      while (options.gate !== undefined && existsSync(options.gate)) await sleep(10, undefined, { signal });
      if (inode === index.stateFile) return Buffer.alloc(length, 0x20);
      const from = openSync(dataFilePath(origin, index, inode), "r");
      const path = dataFilePath(dataPath, index, inode);
      closeSync(openSync(path, "a"));
      const to = openSync(path, "r+");
      for (let chunk = index.chunkAt(inode, offset); chunk < index.firstChunk(inode) + index.chunksOf(inode); chunk += 1) {
        const at = index.chunkFileOffset(chunk);
        if (at >= offset + length) break;
        const part = new Uint8Array(index.chunkLength(chunk));
        const place = index.dataOffset(inode) + at;
        readSync(from, part, 0, part.length, place);
        writeSync(to, part, 0, part.length, place);
        bits[chunk >> 3] = (bits[chunk >> 3] ?? 0) | (1 << (chunk & 7));
      }
      closeSync(from);
      closeSync(to);
      return undefined;
    },
  };
}

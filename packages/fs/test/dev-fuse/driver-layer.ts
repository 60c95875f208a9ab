import { closeSync, ftruncateSync, mkdirSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { buildLayerIndex, type DriverLayer, dataFilePath, type LayerIndex } from "../../src/index.ts";
import { makeLayer, type TestEntry } from "../memory-layer.ts";

/** How a layer for the driver is made. */
export interface DriverLayerOptions {
  readonly number: number;
  readonly entries: readonly TestEntry[];
  /** Where its data files are written. */
  readonly directory: string;
  /** Whether all bytes are local from the beginning; otherwise each chunk becomes local when it is fetched. Default true. */
  readonly local?: boolean;
  /** Called before bytes are brought. */
  readonly onFetch?: (inode: number, offset: number, length: number, signal: AbortSignal) => Promise<void>;
}

/** A layer whose bytes come from memory. */
export interface TestDriverLayer extends DriverLayer {
  readonly fetches: number;
  content(inode: number): Buffer;
}

/** Makes a layer for a driver from a list of entries, with real data files. */
export function makeDriverLayer(options: DriverLayerOptions): TestDriverLayer {
  const { layer, content } = makeLayerContent(options.entries);
  const index = buildLayerIndex(layer);
  const bitmap = new SharedArrayBuffer((index.chunkCount + 7) >> 3);
  const dataPath = join(options.directory, `layer-${options.number}`);
  mkdirSync(options.directory, { recursive: true });
  const whole = new Set<number>();
  writeSparse(dataPath, index.dataBytes);
  let fetches = 0;
  const bring = (inode: number, offset: number, length: number): void => {
    const bits = new Uint8Array(bitmap);
    const bytes = content(inode);
    const path = dataFilePath(dataPath, index, inode);
    const fd = openSync(path, "a+");
    closeSync(fd);
    const file = openSync(path, "r+");
    for (let chunk = index.chunkAt(inode, offset); chunk < index.firstChunk(inode) + index.chunksOf(inode); chunk += 1) {
      const at = index.chunkFileOffset(chunk);
      if (at >= offset + length) break;
      writeSync(file, bytes, at, index.chunkLength(chunk), index.dataOffset(inode) + at);
      bits[chunk >> 3] = (bits[chunk >> 3] ?? 0) | (1 << (chunk & 7));
    }
    closeSync(file);
  };
  if (options.local !== false) {
    for (let inode = 0; inode < index.inodeCount; inode += 1) {
      if (!index.isRegular(inode) || index.size(inode) === 0 || inode === index.stateFile) continue;
      bring(inode, 0, index.size(inode));
      if (index.hasOwnFile(inode)) whole.add(inode);
    }
  }
  return {
    number: options.number,
    index,
    content,
    get fetches() {
      return fetches;
    },
    store: { dataPath, bitmap, backingPath: (inode) => (whole.has(inode) ? dataFilePath(dataPath, index, inode) : undefined) },
    async fetch(inode, offset, length, signal) {
      fetches += 1;
      await options.onFetch?.(inode, offset, length, signal);
      signal.throwIfAborted();
      if (inode === index.stateFile) return Buffer.alloc(length, 0x20);
      bring(inode, offset, length);
      return undefined;
    },
  };
}

function writeSparse(path: string, length: number): void {
  const fd = openSync(path, "w");
  ftruncateSync(fd, length);
  closeSync(fd);
}

function makeLayerContent(entries: readonly TestEntry[]): {
  layer: ReturnType<typeof makeLayer>["layer"];
  content: (inode: number) => Buffer;
} {
  const { layer } = makeLayer([...entries]);
  const byPath = new Map(entries.map((entry) => [entry.path, Buffer.from(entry.content ?? "")]));
  return { layer, content: (inode) => byPath.get(layer.entries[inode]?.path ?? "") ?? Buffer.alloc(0) };
}

/** Inode of a path in a layer. */
export function inodeOf(index: LayerIndex, path: string): number {
  return path.split("/").reduce((inode, part) => index.lookup(inode, Buffer.from(part)), 0);
}

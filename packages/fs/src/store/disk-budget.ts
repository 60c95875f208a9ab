import type { Logger } from "@estargz/interface";
import type { HeldLayer } from "../held-layer.ts";
import { diskBytes } from "./disk-bytes.ts";
import type { LayerStore } from "./layer-store.ts";

/** How long a chunk's bytes stay after it was taken out of the bitmap: a reader may be on its way to them. */
const GRACE_MS = 1000;

/** Keeps local data under a limit of bytes. */
export interface DiskBudget {
  /**
   * Makes room. False when there is none at the moment: the bytes cannot be kept.
   *
   * @param mayTake - Whether data of layers that somebody holds may go for it; else only layers that nobody holds.
   */
  reserve(bytes: number, mayTake: boolean): boolean;
  /** Bytes that count towards the limit. */
  usedBytes(): number;
  close(): void;
}

/**
 * Keeps the data of layers under `maxBytes`: takes layers that nobody holds first, least recently used, then chunks of held
 * layers that no reader waited for, then the rest.
 */
export function createDiskBudget(options: {
  readonly maxBytes: number;
  readonly logger: Logger;
  readonly layers: () => Iterable<HeldLayer>;
  /** Bytes that requests under way will write. */
  readonly reservedBytes: () => number;
  /** Removes a layer that nobody holds. */
  readonly remove: (layer: HeldLayer) => Promise<number>;
}): DiskBudget {
  const { maxBytes, logger } = options;
  /** Bytes out of the bitmaps that are still on disk. */
  let leavingBytes = 0;
  const timers = new Set<NodeJS.Timeout>();

  const usedBytes = (): number => {
    let bytes = leavingBytes + options.reservedBytes();
    for (const layer of options.layers()) bytes += layer.fill.store.localBytes + layer.fill.store.index.buffer.byteLength;
    return bytes;
  };

  const free = (layer: HeldLayer, chunks: readonly number[], bytes: number): void => {
    const { store } = layer.fill;
    store.unshow(chunks);
    layer.fill.setKeep(chunks, true);
    leavingBytes += bytes;
    const timer = setTimeout(() => {
      timers.delete(timer);
      store.free(chunks);
      layer.fill.setKeep(chunks, false);
      leavingBytes -= bytes;
    }, GRACE_MS);
    timers.add(timer);
  };

  const evict = (wanted: number, mayTake: boolean): void => {
    let missing = wanted;
    const layers = [...options.layers()];
    const cold = layers.filter((layer) => layer.owners.size === 0).sort((a, b) => a.lastUsedMs - b.lastUsedMs);
    for (const layer of cold) {
      if (missing <= 0) return;
      const bytes = layer.fill.store.localBytes + layer.fill.store.index.buffer.byteLength;
      missing -= bytes;
      leavingBytes += bytes;
      void options
        .remove(layer)
        .catch((error: unknown) => logger.warn({ err: error }, "a layer that nobody holds could not be removed"))
        .finally(() => {
          leavingBytes -= bytes;
        });
    }
    if (!mayTake) return;
    const warm = layers.filter((layer) => layer.owners.size > 0).sort((a, b) => a.fill.rank - b.fill.rank);
    for (const isRead of [false, true]) {
      for (const layer of warm) {
        if (missing <= 0) return;
        const { chunks, bytes } = chooseChunks(layer.fill.store, layer.fill.firstUse, isRead, missing);
        if (chunks.length === 0) continue;
        missing -= bytes;
        logger.debug({ bytes, digest: layer.layerDigest }, "local data is given up to stay under the limit");
        free(layer, chunks, bytes);
      }
    }
  };

  return {
    usedBytes,
    reserve(bytes, mayTake) {
      if (!Number.isFinite(maxBytes)) return true;
      const over = usedBytes() + bytes - maxBytes;
      if (over <= 0) return true;
      // What is leaving already makes room by itself.
      if (over > leavingBytes) evict(over - leavingBytes + Math.floor(maxBytes / 16), mayTake);
      return usedBytes() + bytes <= maxBytes;
    },
    close() {
      for (const timer of timers) clearTimeout(timer);
    },
  };
}

function chooseChunks(store: LayerStore, read: ReadonlySet<number>, isRead: boolean, wanted: number): { chunks: number[]; bytes: number } {
  const { index } = store;
  const chunks: number[] = [];
  let bytes = 0;
  for (let chunk = index.chunkCount - 1; chunk >= 0 && bytes < wanted; chunk--) {
    if (!store.isLive(chunk) || read.has(chunk) !== isRead || store.pinned.has(index.chunkInode(chunk))) continue;
    chunks.push(chunk);
    bytes += diskBytes(index, chunk);
  }
  return { chunks, bytes };
}

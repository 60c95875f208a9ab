import type { LayerIndex } from "../layer-index.ts";

/** Finds chunks of known layers by the digest of their content. */
export interface DigestTable {
  /** Takes the chunks of a verified layer up. */
  add(layer: number, index: LayerIndex): void;
  /** Leaves a layer out from now on. */
  remove(layer: number): void;
  /** The first chunk with this digest that `accept` takes. */
  find(
    digest: Uint8Array,
    accept: (layer: number, chunk: number) => boolean,
  ): { readonly layer: number; readonly chunk: number } | undefined;
}

/** Most chunks of equal hash that are looked at. */
const MAX_PROBES = 64;

/** Makes a hash table with open addressing over the digests' first bytes: 8 bytes a chunk, half full at most. */
export function createDigestTable(): DigestTable {
  const layers = new Map<number, LayerIndex>();
  let owners = new Uint32Array(1024);
  let chunks = new Uint32Array(1024);
  let used = 0;

  const slotOf = (digest: Uint8Array, size: number): number =>
    (((digest[0] ?? 0) | ((digest[1] ?? 0) << 8) | ((digest[2] ?? 0) << 16) | ((digest[3] ?? 0) << 24)) >>> 0) % size;
  const insert = (layer: number, chunk: number, digest: Uint8Array): void => {
    let slot = slotOf(digest, owners.length);
    while (owners[slot] !== 0) slot = (slot + 1) % owners.length;
    owners[slot] = layer;
    chunks[slot] = chunk;
    used++;
  };
  const grow = (room: number): void => {
    let size = owners.length;
    while (size < (used + room) * 2) size *= 2;
    if (size === owners.length) return;
    const [oldOwners, oldChunks] = [owners, chunks];
    owners = new Uint32Array(size);
    chunks = new Uint32Array(size);
    used = 0;
    oldOwners.forEach((layer, slot) => {
      const chunk = oldChunks[slot] ?? 0;
      const digest = layers.get(layer)?.chunkDigest(chunk);
      if (digest !== undefined) insert(layer, chunk, digest);
    });
    for (const index of layers.values()) index.rest();
  };
  return {
    add(layer, index) {
      if (!index.verified || layers.has(layer)) return;
      layers.set(layer, index);
      grow(index.chunkCount);
      for (let chunk = 0; chunk < index.chunkCount; chunk++) {
        const digest = index.chunkDigest(chunk);
        if (digest !== undefined) insert(layer, chunk, digest);
      }
    },
    remove(layer) {
      layers.delete(layer);
    },
    find(digest, accept) {
      let slot = slotOf(digest, owners.length);
      for (let probe = 0; probe < MAX_PROBES && owners[slot] !== 0; probe++, slot = (slot + 1) % owners.length) {
        const layer = owners[slot] ?? 0;
        const chunk = chunks[slot] ?? 0;
        const known = layers.get(layer)?.chunkDigest(chunk);
        if (known !== undefined && Buffer.from(known.buffer, known.byteOffset, 32).equals(digest) && accept(layer, chunk))
          return { layer, chunk };
      }
      return undefined;
    },
  };
}

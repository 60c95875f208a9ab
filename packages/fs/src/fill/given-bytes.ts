/** Bytes of one layer's chunks that the disk did not take, held in memory for whoever reads on in them. */
export interface GivenBytes {
  get(chunk: number): Uint8Array | undefined;
  add(chunk: number, bytes: Uint8Array): void;
  clear(): void;
}

/** Memory for such bytes of all layers. */
export interface GivenBudget {
  forLayer(): GivenBytes;
}

/** Holds at most `maxBytes` over all layers, the oldest go first. */
export function createGivenBudget(maxBytes: number): GivenBudget {
  interface Held {
    readonly bytes: Uint8Array;
    drop(): void;
  }
  const all = new Set<Held>();
  let total = 0;
  const drop = (held: Held): void => {
    if (!all.delete(held)) return;
    total -= held.bytes.length;
    held.drop();
  };
  return {
    forLayer() {
      const chunks = new Map<number, Held>();
      return {
        get: (chunk) => chunks.get(chunk)?.bytes,
        add(chunk, bytes) {
          const former = chunks.get(chunk);
          if (former !== undefined) drop(former);
          const held: Held = { bytes, drop: () => chunks.delete(chunk) };
          chunks.set(chunk, held);
          all.add(held);
          total += bytes.length;
          for (const oldest of all) {
            if (total <= maxBytes || oldest === held) break;
            drop(oldest);
          }
        },
        clear() {
          for (const held of chunks.values()) drop(held);
        },
      };
    },
  };
}

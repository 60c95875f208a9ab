/** Bytes of chunks that the disk did not take, held in memory for whoever reads on in them. */
export interface GivenBytes {
  get(chunk: number): Uint8Array | undefined;
  add(chunk: number, bytes: Uint8Array): void;
  clear(): void;
}

/** Holds at most `maxBytes`, the oldest go first. */
export function createGivenBytes(maxBytes: number): GivenBytes {
  const chunks = new Map<number, Uint8Array>();
  let held = 0;
  return {
    get: (chunk) => chunks.get(chunk),
    add(chunk, bytes) {
      held += bytes.length - (chunks.get(chunk)?.length ?? 0);
      chunks.delete(chunk);
      chunks.set(chunk, bytes);
      for (const [oldest, old] of chunks) {
        if (held <= maxBytes || oldest === chunk) break;
        chunks.delete(oldest);
        held -= old.length;
      }
    },
    clear() {
      chunks.clear();
      held = 0;
    },
  };
}

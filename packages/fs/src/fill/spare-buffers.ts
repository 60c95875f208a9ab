const MAX_SPARE_BUFFERS = 4;

/** Buffers of former requests, for the next ones: fresh memory costs as much as filling it. */
export interface SpareBuffers {
  /** A buffer for a request that is about as large as background requests are; `undefined` for others. */
  take(bytes: number): SharedArrayBuffer | undefined;
  /** Nobody uses a buffer any more. */
  give(buffer: SharedArrayBuffer): void;
  /** Forgets all: somebody may still read them. */
  clear(): void;
}

/** Keeps some buffers of `bufferBytes`. */
export function createSpareBuffers(bufferBytes: number): SpareBuffers {
  const spare: SharedArrayBuffer[] = [];
  return {
    take: (bytes) => (bytes > bufferBytes || bytes < bufferBytes / 2 ? undefined : (spare.pop() ?? new SharedArrayBuffer(bufferBytes))),
    give(buffer) {
      if (spare.length < MAX_SPARE_BUFFERS && buffer.byteLength === bufferBytes) spare.push(buffer);
    },
    clear() {
      spare.length = 0;
    },
  };
}

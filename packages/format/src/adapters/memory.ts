import { EstargzError, type ReaderAt } from "@estargz/interface";

/**
 * Checks a range against a blob's size.
 *
 * @throws {@link EstargzError} `OUT_OF_RANGE`.
 */
export function checkRange(offset: number, length: number, size: number | undefined): void {
  const valid = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0;
  if (valid && (size === undefined || offset + length <= size)) return;
  throw new EstargzError("OUT_OF_RANGE", `can't read ${length} bytes at ${offset} of a blob of ${size ?? "unknown"} bytes`, {
    details: { offset, length, size },
  });
}

/** Reads a blob that is in memory. The bytes are not copied now and must not change; reads give copies. */
export function fromBytes(content: Uint8Array | ArrayBuffer): ReaderAt {
  const bytes = content instanceof Uint8Array ? content : new Uint8Array(content);
  return readerFromRead(bytes.length, async (offset, length) => bytes.slice(offset, offset + length));
}

/** How one range of a blob of known size is read; called with checked ranges only. */
export type ReadRange = (offset: number, length: number, signal: AbortSignal | undefined) => Promise<Uint8Array>;

/** Makes a `ReaderAt` of a function that reads one range: the shortest way to a source of one's own. */
export function readerFromRead(size: number, read: ReadRange, close?: () => Promise<void>): ReaderAt {
  let closed = false;
  const readAt: ReaderAt["readAt"] = async (offset, length, options) => {
    options?.signal?.throwIfAborted();
    if (closed) throw new EstargzError("CLOSED", "this blob was closed");
    checkRange(offset, length, size);
    if (length === 0) return new Uint8Array(0);
    const bytes = await read(offset, length, options?.signal);
    options?.signal?.throwIfAborted();
    if (bytes.length === length) return bytes;
    throw new EstargzError("SHORT_READ", `got ${bytes.length} of ${length} bytes at ${offset}`, { details: { offset, length } });
  };
  return {
    size,
    readAt,
    async readTail(length, options) {
      checkRange(0, length, undefined);
      const take = Math.min(length, size);
      return { bytes: await readAt(size - take, take, options), size };
    },
    readRanges: (ranges, options) => Promise.all(ranges.map(({ offset, length }) => readAt(offset, length, options))),
    async close() {
      if (closed) return;
      closed = true;
      await close?.();
    },
  };
}

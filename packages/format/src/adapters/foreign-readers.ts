import { EstargzError, type ReaderAt } from "@estargz/interface";
import { readerFromRead } from "./memory.ts";

/** hyparquet's `AsyncBuffer`; an `ArrayBuffer` is one, too. */
export interface AsyncBuffer {
  readonly byteLength: number;
  slice(start: number, end?: number): Promise<ArrayBuffer> | ArrayBuffer;
}

/** The part of pmtiles' `Source` that is needed. */
export interface PmtilesSource {
  getKey(): string;
  getBytes(offset: number, length: number, signal?: AbortSignal, etag?: string): Promise<{ data: ArrayBuffer }>;
}

/** The part of zip.js's `Reader` that is needed. */
export interface ZipReader {
  size: number;
  init?(): Promise<void>;
  readUint8Array(index: number, length: number): Promise<Uint8Array>;
}

/** Reads from hyparquet's `AsyncBuffer`. */
export function fromAsyncBuffer(buffer: AsyncBuffer): ReaderAt {
  return readerFromRead(buffer.byteLength, async (offset, length) => new Uint8Array(await buffer.slice(offset, offset + length)));
}

/** Reads from a pmtiles `Source`, of which the size has to be known. */
export function fromPmtilesSource(source: PmtilesSource, size: number): ReaderAt {
  return readerFromRead(size, async (offset, length, signal) => new Uint8Array((await source.getBytes(offset, length, signal)).data));
}

/** Reads from a zip.js `Reader`, once it was initialised. */
export async function fromZipReader(reader: ZipReader): Promise<ReaderAt> {
  await reader.init?.();
  return readerFromRead(reader.size, (offset, length) => reader.readUint8Array(offset, length));
}

/** Gives a blob to hyparquet. Its size has to be known: read its tail first, or open a layer of it. */
export function asAsyncBuffer(blob: ReaderAt): AsyncBuffer {
  const byteLength = knownSize(blob);
  return {
    byteLength,
    slice: async (start, end = byteLength) => {
      const from = start < 0 ? Math.max(0, byteLength + start) : Math.min(start, byteLength);
      const to = end < 0 ? Math.max(0, byteLength + end) : Math.min(end, byteLength);
      return exactBuffer(await blob.readAt(from, Math.max(0, to - from)));
    },
  };
}

/** Gives a blob to pmtiles. `key` names it in pmtiles' caches: its digest is best. */
export function asPmtilesSource(blob: ReaderAt, key: string): PmtilesSource {
  return {
    getKey: () => key,
    getBytes: async (offset, length, signal) => {
      // pmtiles reads a first piece of fixed size, whatever the size of the file.
      const end = blob.size === undefined ? offset + length : Math.min(blob.size, offset + length);
      return { data: exactBuffer(await blob.readAt(offset, Math.max(0, end - offset), { signal })) };
    },
  };
}

/** Gives a blob to zip.js. */
export function asZipReader(blob: ReaderAt): ZipReader {
  return {
    size: blob.size ?? 0,
    async init() {
      this.size = blob.size ?? (await blob.readTail(1)).size;
    },
    readUint8Array: (index, length) => blob.readAt(index, length),
  };
}

function knownSize(blob: ReaderAt): number {
  if (blob.size !== undefined) return blob.size;
  throw new EstargzError("INVALID_ARGUMENT", "the size of this blob is not known yet; read its tail first");
}

function exactBuffer(bytes: Uint8Array): ArrayBuffer {
  const { buffer, byteOffset, byteLength } = bytes;
  if (buffer instanceof ArrayBuffer && byteOffset === 0 && byteLength === buffer.byteLength) return buffer;
  return bytes.slice().buffer as ArrayBuffer;
}

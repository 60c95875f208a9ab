import type { ByteRange, Chunk, Layer, LayerEntry, ReadOptions } from "@estargz/interface";
import { EstargzError } from "@estargz/interface";
import { verifyDigest } from "./decode-chunk.ts";

/** Compressed bytes that are fetched with one call while a file is read through. */
const WINDOW_BYTES = 4 << 20;

/** The chunks of a file that cover bytes `offset` to `offset + length`, clipped to the file. */
function chunksOfRange(chunks: readonly Chunk[], offset: number, length: number): readonly Chunk[] {
  if (length <= 0) return [];
  let low = 0;
  let high = chunks.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const chunk = chunks[middle] as Chunk;
    if (chunk.fileOffset + chunk.length <= offset) low = middle + 1;
    else high = middle;
  }
  let end = low;
  while (end < chunks.length && (chunks[end] as Chunk).fileOffset < offset + length) end += 1;
  return chunks.slice(low, end);
}

/** Reads a range of a regular file; shorter only at its end. */
export async function readFileRange(
  layer: Layer,
  entry: LayerEntry,
  offset: number,
  length: number,
  options: ReadOptions,
): Promise<Uint8Array> {
  if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || offset < 0 || length < 0) {
    throw new EstargzError("OUT_OF_RANGE", `can't read ${length} bytes at ${offset}: both have to be integers from 0 on`);
  }
  const end = Math.min(entry.size, offset + length);
  if (offset >= end) return new Uint8Array(0);
  const result = allocate(end - offset, entry);
  const chunks = chunksOfRange(entry.chunks, offset, end - offset);
  let at = (chunks[0] as Chunk).fileOffset;
  for await (const bytes of streamChunks(layer, chunks, options)) {
    const from = Math.max(0, offset - at);
    const to = Math.min(bytes.length, end - at);
    result.set(bytes.subarray(from, to), at + from - offset);
    at += bytes.length;
  }
  if (result.length === entry.size && needsFileDigest(entry)) verifyDigest(result, entry.digest, `file ${JSON.stringify(entry.path)}`);
  return result;
}

/** A TOC may name files of any size; memory has less. */
function allocate(bytes: number, entry: LayerEntry): Uint8Array {
  try {
    return new Uint8Array(bytes);
  } catch (cause) {
    throw new EstargzError(
      "LIMIT_EXCEEDED",
      `${bytes} bytes of ${JSON.stringify(entry.path)} don't fit into memory at once; stream the file`,
      {
        cause,
      },
    );
  }
}

/** Whether the file's own digest says more than those of its chunks. */
function needsFileDigest(entry: LayerEntry): entry is LayerEntry & { readonly digest: NonNullable<LayerEntry["digest"]> } {
  return entry.digest !== undefined && !(entry.chunks.length === 1 && entry.chunks[0]?.digest === entry.digest);
}

interface Window {
  readonly chunks: readonly Chunk[];
  readonly ranges: readonly ByteRange[];
}

/** Streams chunks in order, fetched in windows of a few MiB; the next window is on its way while one is decoded. */
export async function* streamChunks(layer: Layer, chunks: readonly Chunk[], options: ReadOptions): AsyncIterable<Uint8Array> {
  options.signal?.throwIfAborted();
  const windows = planWindows(layer, chunks);
  let next = fetchWindow(layer, windows[0], options);
  for (const [i, window] of windows.entries()) {
    const pieces = await next;
    next = fetchWindow(layer, windows[i + 1], options);
    let range = 0;
    for (const chunk of window.chunks) {
      if (chunk.zeros) {
        yield layer.decode(new Uint8Array(0), chunk);
        continue;
      }
      while (!contains(window.ranges[range] as ByteRange, chunk.blobOffset)) range += 1;
      yield layer.decode((pieces[range] as Uint8Array).subarray(chunk.blobOffset - (window.ranges[range] as ByteRange).offset), chunk);
    }
  }
}

function contains(range: ByteRange, offset: number): boolean {
  return offset >= range.offset && offset < range.offset + range.length;
}

function fetchWindow(layer: Layer, window: Window | undefined, options: ReadOptions): Promise<Uint8Array[]> {
  const fetched = window === undefined || window.ranges.length === 0 ? Promise.resolve([]) : layer.blob.readRanges(window.ranges, options);
  // It is awaited later, or never if the consumer stops.
  fetched.catch(() => {});
  return fetched;
}

/** Cuts a list of chunks into windows, and joins spans that touch or overlap. */
function planWindows(layer: Layer, chunks: readonly Chunk[]): Window[] {
  const windows: { chunks: Chunk[]; ranges: ByteRange[]; bytes: number }[] = [];
  for (const chunk of chunks) {
    let window = windows.at(-1);
    if (window === undefined || window.bytes >= WINDOW_BYTES) {
      window = { chunks: [], ranges: [], bytes: 0 };
      windows.push(window);
    }
    window.chunks.push(chunk);
    if (chunk.zeros) continue;
    const span = layer.span(chunk);
    const last = window.ranges.at(-1);
    if (last !== undefined && span.offset >= last.offset && span.offset <= last.offset + last.length) {
      const end = Math.max(last.offset + last.length, span.offset + span.length);
      window.bytes += end - last.offset - last.length;
      window.ranges[window.ranges.length - 1] = { offset: last.offset, length: end - last.offset };
    } else {
      window.ranges.push(span);
      window.bytes += span.length;
    }
  }
  return windows;
}

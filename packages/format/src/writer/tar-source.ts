import { EstargzError, type ReaderAt } from "@estargz/interface";
import { runtime } from "#runtime";
import { concatBytes } from "../bytes.ts";

/** Where a tar comes from: bytes, a blob, or a stream of bytes. Plain, gzip or zstd; which is found out from its first bytes. */
export type TarSource = Uint8Array | Blob | ReaderAt | AsyncIterable<Uint8Array> | ReadableStream<Uint8Array>;

const PIECE_BYTES = 1 << 20;

/** Streams a tar, decompressed if need be. */
export async function* openTarSource(source: TarSource, signal: AbortSignal | undefined): AsyncIterable<Uint8Array> {
  const stream = leavable(toStream(source, signal), signal)[Symbol.asyncIterator]();
  // Four bytes tell the formats apart.
  const first: Uint8Array[] = [];
  let length = 0;
  while (length < 4) {
    const next = await stream.next();
    if (next.done === true) break;
    if (next.value.length === 0) continue;
    first.push(next.value);
    length += next.value.length;
  }
  const head = first.length === 1 ? (first[0] as Uint8Array) : concatBytes(first);
  const whole = resume(head, stream);
  const format = sniff(head);
  yield* format === undefined ? whole : runtime.decompress(format, whole);
}

/** Format of a compressed stream by its first four bytes; `undefined` for a plain one. */
function sniff(head: Uint8Array): "gzip" | "zstd" | undefined {
  if (head[0] === 0x1f && head[1] === 0x8b) return "gzip";
  const isFrame = head[0] === 0x28 && head[1] === 0xb5 && head[2] === 0x2f && head[3] === 0xfd;
  const isSkippable = ((head[0] ?? 0) & 0xf0) === 0x50 && head[1] === 0x2a && head[2] === 0x4d && head[3] === 0x18;
  return isFrame || isSkippable ? "zstd" : undefined;
}

async function* resume(head: Uint8Array, rest: AsyncIterator<Uint8Array>): AsyncIterable<Uint8Array> {
  try {
    if (head.length > 0) yield head;
    for (;;) {
      const next = await rest.next();
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    await rest.return?.();
  }
}

function toStream(source: TarSource, signal: AbortSignal | undefined): AsyncIterable<Uint8Array> {
  if (source instanceof Uint8Array) return once(source);
  if (typeof Blob !== "undefined" && source instanceof Blob) return toStream(source.stream(), signal);
  if (Symbol.asyncIterator in source) return source as AsyncIterable<Uint8Array>;
  if ("readAt" in source) return readBlob(source as ReaderAt, signal);
  if ("getReader" in source) return readStream(source as unknown as ReadableStream<Uint8Array>);
  throw new EstargzError("INVALID_ARGUMENT", "a tar has to be bytes, a Blob, a ReaderAt or a stream of bytes");
}

/** The same stream, which an abort ends at once, also while its next piece is waited for. */
async function* leavable(stream: AsyncIterable<Uint8Array>, signal: AbortSignal | undefined): AsyncIterable<Uint8Array> {
  if (signal === undefined) {
    yield* stream;
    return;
  }
  const iterator = stream[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await nextUntilAborted(iterator, signal);
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    const ending = Promise.resolve(iterator.return?.());
    // A source that is stuck is not waited for.
    if (signal.aborted) ending.catch(() => {});
    else await ending;
  }
}

function nextUntilAborted(iterator: AsyncIterator<Uint8Array>, signal: AbortSignal): Promise<IteratorResult<Uint8Array>> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const leave = (): void => reject(signal.reason);
    signal.addEventListener("abort", leave, { once: true });
    const settled = (): void => signal.removeEventListener("abort", leave);
    iterator.next().then(
      (next) => {
        settled();
        resolve(next);
      },
      (error: unknown) => {
        settled();
        reject(error);
      },
    );
  });
}

async function* once(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  yield bytes;
}

/** Not every browser can iterate over a stream. */
async function* readStream(stream: ReadableStream<Uint8Array>): AsyncIterable<Uint8Array> {
  const reader = stream.getReader();
  try {
    for (;;) {
      const next = await reader.read();
      if (next.done) return;
      yield next.value;
    }
  } finally {
    await reader.cancel();
  }
}

/** Streams a whole blob. */
export async function* readBlob(blob: ReaderAt, signal?: AbortSignal): AsyncIterable<Uint8Array> {
  const size = blob.size ?? (await blob.readTail(1, { signal })).size;
  if (blob.stream !== undefined) {
    yield* blob.stream(0, size, { signal });
    return;
  }
  for (let at = 0; at < size; at += PIECE_BYTES) yield await blob.readAt(at, Math.min(PIECE_BYTES, size - at), { signal });
}

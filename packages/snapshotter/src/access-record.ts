import type { LayerLocation, LayerSource, ReaderAt, ReadOptions } from "@estargz/interface";
import { repositoryOf } from "./labels.ts";

/**
 * Remembers which repositories have given bytes of which blobs.
 *
 * A layer that is local already costs no request, so without this an image could name a layer of a private image and be
 * shown its files. With it, each repository has to give a byte of the blob once before its images see the local copy.
 */
export interface AccessRecord {
  /** A source that remembers every successful read. Give this one to the file system. */
  readonly source: LayerSource;
  /** Whether the location's repository has given bytes of the blob since this process started. */
  proven(location: LayerLocation): boolean;
  /** Reads a byte of the blob from the location, unless it is proven. Rejects with what the source says. */
  prove(location: LayerLocation, options?: { readonly signal?: AbortSignal | undefined }): Promise<void>;
}

/** How many (repository, blob) pairs are remembered; forgotten ones are proven again by a request. */
const MAX_PAIRS = 20_000;

function keyOf(location: LayerLocation): string {
  return `${repositoryOf(location.reference)} ${location.descriptor.digest}`;
}

class RecordingReader implements ReaderAt {
  readonly #inner: ReaderAt;
  readonly #proven: () => void;
  readonly stream?: NonNullable<ReaderAt["stream"]>;

  constructor(inner: ReaderAt, proven: () => void) {
    this.#inner = inner;
    this.#proven = proven;
    const stream = inner.stream?.bind(inner);
    if (stream !== undefined) this.stream = (offset, length, options) => this.#recorded(stream(offset, length, options));
  }

  get size(): number | undefined {
    return this.#inner.size;
  }

  async readAt(offset: number, length: number, options?: ReadOptions): Promise<Uint8Array> {
    const bytes = await this.#inner.readAt(offset, length, options);
    if (length > 0) this.#proven();
    return bytes;
  }

  async readTail(length: number, options?: ReadOptions): ReturnType<ReaderAt["readTail"]> {
    const tail = await this.#inner.readTail(length, options);
    this.#proven();
    return tail;
  }

  async readRanges(ranges: Parameters<ReaderAt["readRanges"]>[0], options?: ReadOptions): Promise<Uint8Array[]> {
    const parts = await this.#inner.readRanges(ranges, options);
    if (ranges.some((range) => range.length > 0)) this.#proven();
    return parts;
  }

  async *#recorded(pieces: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
    for await (const piece of pieces) {
      if (piece.length > 0) this.#proven();
      yield piece;
    }
  }

  async close(): Promise<void> {
    await this.#inner.close?.();
  }
}

/** Wraps a source so that access to blobs is remembered; see {@link AccessRecord}. */
export function recordAccess(source: LayerSource): AccessRecord {
  const pairs = new Set<string>();
  const remember = (key: string): void => {
    if (pairs.has(key)) return;
    if (pairs.size >= MAX_PAIRS) {
      const [oldest] = pairs;
      if (oldest !== undefined) pairs.delete(oldest);
    }
    pairs.add(key);
  };
  const recording: LayerSource = {
    open: (location) => new RecordingReader(source.open(location), () => remember(keyOf(location))),
  };
  return {
    source: recording,
    proven: (location) => pairs.has(keyOf(location)),
    async prove(location, options = {}) {
      if (pairs.has(keyOf(location))) return;
      const reader = recording.open(location);
      try {
        await reader.readAt(0, 1, options);
      } finally {
        await reader.close?.();
      }
    },
  };
}

import { openLayer } from "@estargz/format";
import type { Digest, LayerLocation, LayerSource, ReaderAt, ReadOptions } from "@estargz/interface";
import { repositoryOf } from "./labels.ts";

/**
 * Remembers which repositories have given which blobs.
 *
 * A layer that is local already costs no request, so without this an image could name a layer of a private image and be
 * shown its files. With it, the repository of each image has to show that it has the layer, too, before its images see the
 * local copy: by the layer's table of contents, whose digest a registry that only claims to have it can't meet.
 */
export interface AccessRecord {
  /** A source that remembers every successful read. Give this one to the file system. */
  readonly source: LayerSource;
  /** Whether the location's repository has given bytes of the blob since this process started. */
  hasRead(location: LayerLocation): boolean;
  /**
   * Fetches the layer's table of contents from the location and compares its digest, unless that was done before.
   *
   * @throws `DIGEST_MISMATCH` when the repository has something else under the blob's digest, and the source's codes.
   */
  prove(location: LayerLocation, tocDigest: Digest, options?: { readonly signal?: AbortSignal | undefined }): Promise<void>;
}

/** Options of {@link recordAccess}. */
export interface RecordAccessOptions {
  /** Opens a layer and checks its TOC's digest. Default: `openLayer` of `@estargz/format`. */
  readonly verify?:
    | ((blob: ReaderAt, location: LayerLocation, tocDigest: Digest, signal: AbortSignal | undefined) => Promise<unknown>)
    | undefined;
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

class Bounded extends Set<string> {
  override add(key: string): this {
    if (this.size >= MAX_PAIRS && !this.has(key)) {
      const [oldest] = this;
      if (oldest !== undefined) this.delete(oldest);
    }
    return super.add(key);
  }
}

/** Wraps a source so that access to blobs is remembered; see {@link AccessRecord}. */
export function recordAccess(source: LayerSource, options: RecordAccessOptions = {}): AccessRecord {
  const read = new Bounded();
  const proven = new Bounded();
  const verify =
    options.verify ??
    ((blob, location, tocDigest, signal) => openLayer(blob, { tocDigest, annotations: location.descriptor.annotations, signal }));
  const recording: LayerSource = {
    open: (location) => new RecordingReader(source.open(location), () => read.add(keyOf(location))),
  };
  return {
    source: recording,
    hasRead: (location) => read.has(keyOf(location)),
    async prove(location, tocDigest, { signal } = {}) {
      const key = `${keyOf(location)} ${tocDigest}`;
      if (proven.has(key)) return;
      const blob = recording.open(location);
      try {
        await verify(blob, location, tocDigest, signal);
        proven.add(key);
      } finally {
        await blob.close?.();
      }
    },
  };
}

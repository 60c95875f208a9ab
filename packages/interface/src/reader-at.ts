/** Options of every read. */
export interface ReadOptions {
  /** Aborts this caller's wait, and rejects it with the signal's own reason; work shared with others goes on. */
  readonly signal?: AbortSignal | undefined;
  /**
   * How urgently the bytes are wanted; a source that queues takes higher numbers first. Reads that a process
   * waits for use {@link PRIORITY_ON_DEMAND}. Default {@link PRIORITY_ON_DEMAND}.
   */
  readonly priority?: number | undefined;
}

/** Options of {@link ReaderAt.stream}. */
export interface StreamReadOptions extends ReadOptions {
  /**
   * Memory of at least `length` bytes for the stream, which may be shared between threads. A source that can puts each
   * byte there, at its place, and gives pieces that are parts of it; others ignore it, so compare a piece's `buffer`.
   * Nothing is written there any more once the iteration has ended. Default: each piece has memory of its own.
   */
  readonly into?: Uint8Array | undefined;
}

/** Priority of a read that somebody waits for. */
export const PRIORITY_ON_DEMAND = 100;
/** Priority of a read that is expected to be wanted soon. */
export const PRIORITY_PREFETCH = 50;
/** Priority of filling up in the background. */
export const PRIORITY_BACKGROUND = 0;

/** A range of bytes: `length` bytes from `offset`. Both are safe, non-negative integers. */
export interface ByteRange {
  readonly offset: number;
  readonly length: number;
}

/** The end of a blob, with what was learned on the way. */
export interface Tail {
  /** The last bytes: as many as asked for, or the whole blob if it is smaller. Owned by the caller. */
  readonly bytes: Uint8Array;
  /** Size of the whole blob, in bytes. */
  readonly size: number;
}

/**
 * Random access to an immutable blob.
 *
 * Reads give exactly the bytes asked for or reject with a typed error; they are never short. Returned buffers
 * belong to the caller. Reads may run concurrently.
 */
export interface ReaderAt {
  /** Size of the blob in bytes; `undefined` until a read has learned it. */
  readonly size: number | undefined;
  /**
   * Reads exactly `length` bytes from `offset`. A `length` of 0 gives an empty array without I/O.
   *
   * @throws `OUT_OF_RANGE` past the end or for a negative or unsafe number, `SHORT_READ` when the source ends early.
   */
  readAt(offset: number, length: number, options?: ReadOptions): Promise<Uint8Array>;
  /**
   * Reads the last `length` bytes and learns the size, in the same round trip.
   * Gives the whole blob when it is smaller.
   */
  readTail(length: number, options?: ReadOptions): Promise<Tail>;
  /**
   * Reads several ranges in one call, given back in the order asked for. A source may answer them with fewer
   * requests than ranges. All or nothing: one failing range rejects the call.
   */
  readRanges(ranges: readonly ByteRange[], options?: ReadOptions): Promise<Uint8Array[]>;
  /**
   * Streams `length` bytes from `offset` in one request, in order, in pieces of any size; ends after exactly
   * `length` bytes or throws. Optional: {@link readAt} is enough for correctness.
   */
  stream?(offset: number, length: number, options?: StreamReadOptions): AsyncIterable<Uint8Array>;
  /** Lets go of connections and handles. Idempotent. Reads after it reject with `CLOSED`. */
  close?(): Promise<void>;
}

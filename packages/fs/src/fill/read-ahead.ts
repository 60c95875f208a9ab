/** A reader that goes forward in a blob. */
interface Stream {
  /** Position (in blob order) after the last chunk that was wanted. */
  wanted: number;
  /** Position after the last chunk wanted or fetched ahead. */
  reached: number;
  /** Bytes fetched ahead at the last step; 0 before the second. */
  windowBytes: number;
  steps: number;
  lastUse: number;
}

/** Options of {@link createReadAhead}. */
export interface ReadAheadOptions {
  /** Most that is fetched ahead. Default 8 MiB. */
  readonly maxWindowBytes?: number | undefined;
  /** Forward reads that are told apart. Default 16. */
  readonly maxStreams?: number | undefined;
}

/** Guesses from the misses of a layer what will be read next. Pure: knows positions in blob order, no time. */
export interface ReadAhead {
  /**
   * Tells of a miss.
   *
   * @param first - Position of the first chunk wanted, in blob order.
   * @param last - Position of the last chunk wanted.
   * @param bytes - Compressed bytes of the wanted chunks.
   * @param continues - Whether the read begins where an earlier one of its file ended: a step even inside of one chunk.
   * @returns Compressed bytes to fetch past `last`; 0 when nothing suggests reading on.
   */
  miss(first: number, last: number, bytes: number, continues?: boolean): number;
  /** Tells how far a fetch went, so that the next miss there is known to be the same reader. */
  fetched(last: number, reached: number): void;
}

/** Once a reader has taken some steps, it may leave out this many chunks and is known all the same. */
const SLACK_CHUNKS = 2;
const STEPS_FOR_SLACK = 2;

/**
 * Makes a detector of forward reads. A reader shows itself by a miss right behind an earlier one (or inside what was
 * fetched for it); it gets as much again as it asked for, then twice as much with each step. So a random read
 * that happens to look like a step costs no more than itself.
 */
export function createReadAhead(options: ReadAheadOptions = {}): ReadAhead {
  const maxWindow = options.maxWindowBytes ?? 8 * 1024 * 1024;
  const maxStreams = options.maxStreams ?? 16;
  const streams: Stream[] = [];
  let time = 0;

  const begin = (last: number): void => {
    if (streams.length >= maxStreams) {
      let oldest = 0;
      streams.forEach((one, at) => {
        if (one.lastUse < (streams[oldest]?.lastUse ?? 0)) oldest = at;
      });
      streams.splice(oldest, 1);
    }
    streams.push({ wanted: last + 1, reached: last + 1, windowBytes: 0, steps: 0, lastUse: time });
  };

  return {
    miss(first, last, bytes, continues = false) {
      time++;
      const stream = streams.find(
        (one) =>
          last + 1 >= one.wanted + (continues ? 0 : 1) &&
          first >= one.wanted - 1 &&
          first <= one.reached + (one.steps >= STEPS_FOR_SLACK ? SLACK_CHUNKS : 0),
      );
      if (stream === undefined) {
        // Again what somebody waits for already: no step, and no reader of its own.
        if (!streams.some((one) => last + 1 === one.wanted)) begin(last);
        return 0;
      }
      stream.lastUse = time;
      stream.steps++;
      stream.windowBytes = Math.min(maxWindow, stream.windowBytes === 0 ? bytes : stream.windowBytes * 2);
      stream.wanted = last + 1;
      stream.reached = Math.max(stream.reached, last + 1);
      return stream.windowBytes;
    },
    fetched(last, reached) {
      for (const stream of streams) if (stream.wanted === last + 1) stream.reached = Math.max(stream.reached, reached + 1);
    },
  };
}

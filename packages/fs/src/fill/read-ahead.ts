/** A reader that goes forward in a blob. */
interface Stream {
  /** Position (in blob order) after the last chunk asked for or fetched ahead. */
  next: number;
  /** Bytes to fetch ahead at the next hit. */
  windowBytes: number;
  lastUse: number;
}

/** Options of {@link createReadAhead}. */
export interface ReadAheadOptions {
  /** Fetched ahead at the second step of a forward read. Default 128 KiB. */
  readonly firstWindowBytes?: number | undefined;
  /** Most that is fetched ahead. Default 8 MiB. */
  readonly maxWindowBytes?: number | undefined;
  /** Forward reads that are told apart. Default 16. */
  readonly maxStreams?: number | undefined;
}

/** Guesses from the misses of a layer what will be read next. Pure: knows positions in blob order, no time and no bytes. */
export interface ReadAhead {
  /**
   * Tells of a miss.
   *
   * @param first - Position of the first chunk wanted, in blob order.
   * @param last - Position of the last chunk wanted.
   * @returns Compressed bytes to fetch past `last`; 0 when nothing suggests reading on.
   */
  miss(first: number, last: number): number;
  /** Tells how far a fetch went, so that the next miss there is known to be the same reader. */
  fetched(last: number, reached: number): void;
}

/** A miss this many chunks after the end of a forward read still belongs to it, however short that was. */
const SLACK_CHUNKS = 2;

/**
 * Makes a detector of forward reads. A reader shows itself by a miss right behind an earlier one (or inside what
 * was fetched for it); its window then doubles with each step. Random reads never open a window.
 */
export function createReadAhead(options: ReadAheadOptions = {}): ReadAhead {
  const firstWindow = options.firstWindowBytes ?? 128 * 1024;
  const maxWindow = options.maxWindowBytes ?? 8 * 1024 * 1024;
  const maxStreams = options.maxStreams ?? 16;
  const streams: (Stream & { start: number })[] = [];
  let time = 0;
  return {
    miss(first, last) {
      time++;
      const stream = streams.find((one) => first >= one.start && first <= one.next + SLACK_CHUNKS && last >= one.start);
      if (stream === undefined) {
        if (streams.length >= maxStreams) {
          let oldest = 0;
          streams.forEach((one, index) => {
            if (one.lastUse < (streams[oldest]?.lastUse ?? 0)) oldest = index;
          });
          streams.splice(oldest, 1);
        }
        streams.push({ start: first, next: last + 1, windowBytes: 0, lastUse: time });
        return 0;
      }
      stream.lastUse = time;
      if (last < stream.next && first <= stream.start) return 0;
      stream.windowBytes = stream.windowBytes === 0 ? firstWindow : Math.min(maxWindow, stream.windowBytes * 2);
      stream.start = first;
      stream.next = Math.max(stream.next, last + 1);
      return stream.windowBytes;
    },
    fetched(last, reached) {
      for (const stream of streams) if (stream.next === last + 1) stream.next = Math.max(stream.next, reached + 1);
    },
  };
}

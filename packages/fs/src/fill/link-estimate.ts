/** What is known of the way to a source: for guessing whether waiting for a running request is sooner than a new one. */
export interface LinkEstimate {
  /** Milliseconds from asking to the first byte. */
  readonly roundTripMs: number;
  /** Bytes a millisecond, over all requests. */
  readonly bytesPerMs: number;
  firstByte(afterMs: number): void;
  /** Bytes arrived. */
  piece(bytes: number, nowMs: number): void;
}

const WINDOW_MS = 50;

/** Starts with the guess of a near, quick source. */
export function createLinkEstimate(): LinkEstimate {
  let roundTripMs = 10;
  let bytesPerMs = 20_000;
  let windowStart = 0;
  let windowBytes = 0;
  return {
    get roundTripMs() {
      return roundTripMs;
    },
    get bytesPerMs() {
      return bytesPerMs;
    },
    firstByte(afterMs) {
      roundTripMs += (afterMs - roundTripMs) * 0.2;
    },
    piece(bytes, nowMs) {
      if (nowMs - windowStart > 10 * WINDOW_MS) {
        windowStart = nowMs;
        windowBytes = 0;
      }
      windowBytes += bytes;
      const took = nowMs - windowStart;
      if (took < WINDOW_MS) return;
      bytesPerMs += (windowBytes / took - bytesPerMs) * 0.3;
      windowStart = nowMs;
      windowBytes = 0;
    },
  };
}

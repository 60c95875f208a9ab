import { EstargzError, type ReaderAt } from "@estargz/interface";

/** Errors of a source that asking again does not cure. */
const LASTING = new Set(["UNAUTHORIZED", "FORBIDDEN", "NOT_FOUND", "RANGE_UNSUPPORTED", "OUT_OF_RANGE", "INVALID_RESPONSE"]);
const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 2000;

/** The places a blob can be read from: the next one is tried when one fails, all of them again after a while. */
export interface SourceRotation {
  readonly count: number;
  /** No request before this time (performance.now()). */
  readonly retryAtMs: number;
  /** @throws `UNAVAILABLE` when there is none. */
  current(): ReaderAt;
  add(reader: ReaderAt): void;
  /** Goes on to the next place. */
  rotate(): void;
  /** A request failed. Says whether every place was tried and asking again will not help. */
  onFailure(code: string | undefined): boolean;
  /** Whether every place has failed since bytes last arrived. */
  readonly isExhausted: boolean;
  /** Bytes arrived. */
  onByte(): void;
}

/** Begins with the first place. */
export function createSourceRotation(initial: readonly ReaderAt[]): SourceRotation {
  const readers = [...initial];
  let at = 0;
  let failures = 0;
  let retryAtMs = 0;
  return {
    get count() {
      return readers.length;
    },
    get retryAtMs() {
      return retryAtMs;
    },
    current() {
      const reader = readers[at % readers.length];
      if (reader === undefined) throw new EstargzError("UNAVAILABLE", "the layer has no location to read it from");
      return reader;
    },
    add: (reader) => void readers.push(reader),
    rotate() {
      at++;
    },
    onFailure(code) {
      failures++;
      at++;
      const rounds = Math.floor(failures / Math.max(1, readers.length));
      retryAtMs = rounds === 0 ? 0 : performance.now() + Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(10, rounds - 1));
      return code !== undefined && LASTING.has(code) && failures >= readers.length;
    },
    get isExhausted() {
      return failures >= readers.length;
    },
    onByte() {
      failures = 0;
    },
  };
}

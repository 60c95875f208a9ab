import { bytesText } from "./bytes-text.ts";

/** Where progress is drawn: standard error, if it is a terminal. */
export interface ProgressStream {
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
  write(text: string): unknown;
}

/** A line of progress that is rewritten in place. */
export interface ProgressLine {
  /** Adds bytes that are done. */
  add(bytes: number): void;
  /** Sets how many there will be. */
  total(bytes: number): void;
  /** Takes the line away. */
  clear(): void;
}

const WIDTH = 24;
const INTERVAL_MS = 100;

/** Draws nothing unless `stream` is a terminal: logs and pipes stay clean. */
export function createProgressLine(stream: ProgressStream, label: string, now: () => number = () => performance.now()): ProgressLine {
  let done = 0;
  let expected = 0;
  let drawnAt = Number.NEGATIVE_INFINITY;
  let drawn = false;
  const draw = (): void => {
    if (stream.isTTY !== true || now() - drawnAt < INTERVAL_MS) return;
    drawnAt = now();
    drawn = true;
    const share = expected > 0 ? Math.min(1, done / expected) : 0;
    const bar = "█".repeat(Math.round(share * WIDTH)).padEnd(WIDTH, "░");
    const text = `${label} ${bar} ${Math.floor(share * 100)} % ${bytesText(done)} of ${bytesText(expected)}`;
    stream.write(`\r\x1b[K${text.slice(0, (stream.columns ?? 80) - 1)}`);
  };
  return {
    add(bytes) {
      done += bytes;
      draw();
    },
    total(bytes) {
      expected += bytes;
      draw();
    },
    clear() {
      if (drawn) stream.write("\r\x1b[K");
      drawn = false;
    },
  };
}

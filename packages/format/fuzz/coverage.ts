import { Session } from "node:inspector";

interface FunctionCoverage {
  readonly ranges: readonly { readonly startOffset: number; readonly endOffset: number; readonly count: number }[];
}

/** Which blocks of our sources ran, told by V8 itself: no instrumentation is needed. */
export class Coverage {
  readonly #session = new Session();
  readonly #seen = new Set<string>();

  constructor() {
    this.#session.connect();
    this.#session.post("Profiler.enable");
    this.#session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: true });
  }

  /** Features known so far: blocks with the magnitude of how often they ran. */
  get size(): number {
    return this.#seen.size;
  }

  /** Takes what ran since the last call; gives how much of it was never seen before, and remembers it. */
  take(): number {
    return this.#collect(true);
  }

  /** Like {@link take}, but remembers nothing. */
  peek(): number {
    return this.#collect(false);
  }

  #collect(remember: boolean): number {
    let fresh = 0;
    // Answers come at once: the session is on this thread.
    this.#session.post("Profiler.takePreciseCoverage", (error, answer) => {
      if (error !== null) throw error;
      for (const { url, functions } of answer.result) {
        if (!url.includes("/packages/format/src/")) continue;
        const file = url.slice(url.lastIndexOf("/") + 1);
        for (const { ranges } of functions as readonly FunctionCoverage[]) fresh += this.#note(file, ranges, remember);
      }
    });
    return fresh;
  }

  #note(file: string, ranges: FunctionCoverage["ranges"], remember: boolean): number {
    let fresh = 0;
    for (const { startOffset, endOffset, count } of ranges) {
      if (count === 0) continue;
      const feature = `${file}:${startOffset}:${endOffset}:${Math.min(16, Math.floor(Math.log2(count)))}`;
      if (this.#seen.has(feature)) continue;
      if (remember) this.#seen.add(feature);
      fresh += 1;
    }
    return fresh;
  }

  close(): void {
    this.#session.disconnect();
  }
}

/** Says what the demo is doing: one line that is rewritten on a terminal, plain lines elsewhere. */
export interface Progress {
  /** Begins a step. */
  step(text: string): void;
  /** Changes what is said about the running step; shown on a terminal only. */
  detail(text: string): void;
  /** Ends a step with its result. */
  done(text?: string): void;
  /** A line that stays. */
  say(text: string): void;
}

/** Writes to `stream`. */
export function createProgress(stream: NodeJS.WriteStream): Progress {
  let current: string | undefined;
  let startedAt = 0;
  let drawn = false;
  const draw = (text: string): void => {
    if (!stream.isTTY) return;
    const width = Math.max(20, stream.columns ?? 80);
    stream.write(`\r\x1b[K${text.slice(0, width - 1)}`);
    drawn = true;
  };
  const clear = (): void => {
    if (drawn) stream.write("\r\x1b[K");
    drawn = false;
  };
  return {
    step(text) {
      clear();
      current = text;
      startedAt = performance.now();
      draw(`… ${text}`);
    },
    detail(text) {
      if (current !== undefined) draw(`… ${current}: ${text}`);
    },
    done(text) {
      clear();
      const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
      if (current !== undefined) stream.write(`✓ ${current}${text === undefined ? "" : `: ${text}`} (${seconds} s)\n`);
      current = undefined;
    },
    say(text) {
      clear();
      stream.write(`${text}\n`);
    },
  };
}

/** Why the demo was told to stop, as the reason of its signal. */
export class Interrupted extends Error {
  override readonly name: string = "Interrupted";
  readonly exitCode: number;

  constructor(signal: string, exitCode: number) {
    super(`stopped by ${signal}`);
    this.exitCode = exitCode;
  }
}

const EXIT_CODES = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

/** Aborts at the first Ctrl-C, SIGTERM, SIGHUP, or when the parent process has gone; says that it cleans up at further ones. */
export function listenForInterruption(say: (text: string) => void): AbortSignal {
  const controller = new AbortController();
  const stop = (name: string, exitCode: number): void => {
    say(controller.signal.aborted ? "still cleaning up: a moment, please" : "stopping: containers, daemons and mounts are taken away");
    controller.abort(new Interrupted(name, exitCode));
  };
  for (const [name, exitCode] of Object.entries(EXIT_CODES)) process.on(name, () => stop(name, exitCode));
  process.on("disconnect", () => stop("the end of its parent process", EXIT_CODES.SIGHUP));
  return controller.signal;
}

/** Rejects as soon as the signal is aborted, whatever `work` does; its own result comes too late then. */
export async function unlessInterrupted<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  // Its failure is the interruption's: without a handler it would end the process in the middle of cleaning up.
  work.catch(() => undefined);
  signal.throwIfAborted();
  let stop: (() => void) | undefined;
  const aborted = new Promise<never>((_resolve, reject) => {
    stop = () => reject(signal.reason as Error);
    signal.addEventListener("abort", stop, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    if (stop !== undefined) signal.removeEventListener("abort", stop);
  }
}

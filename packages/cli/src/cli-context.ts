import type { ProgressStream } from "./progress.ts";

/** What a command prints on. */
export interface OutputStream {
  write(text: string | Uint8Array): unknown;
}

/** What a run of the command line has to do with. */
export interface CliContext {
  readonly stdout: OutputStream;
  readonly stderr: ProgressStream;
  /** Aborted by Ctrl-C and by SIGTERM. */
  readonly signal: AbortSignal;
}

/** Ends a command with an exit code of its own and without a message: a container's program that failed, for one. */
export class ExitWith extends Error {
  override readonly name: string = "ExitWith";
  readonly exitCode: number;

  constructor(exitCode: number) {
    super(`exit code ${exitCode}`);
    this.exitCode = exitCode;
  }
}

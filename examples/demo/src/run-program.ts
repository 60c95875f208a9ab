import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";

/** A program that was started in a group of its own, so that Ctrl-C does not reach it before we say so. */
export interface Program {
  readonly child: ChildProcess;
  /** Standard output so far. */
  output(): string;
  /** Standard error so far. */
  errors(): string;
  /** Resolves at the first whole line of standard output that `wanted` accepts; rejects when the program ends without it. */
  line(wanted?: (line: string) => boolean): Promise<string>;
  /** Resolves with the exit code. */
  readonly exited: Promise<number>;
  /** Ends it and its group. */
  stop(signal?: NodeJS.Signals): Promise<void>;
}

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    child.kill(signal);
  }
}

/** The end of what a program said, for a message. */
export function lastWords(text: string): string {
  return text.trim().slice(-2000);
}

/** Starts a program. */
export function startProgram(
  command: string,
  args: readonly string[],
  options: { readonly env?: NodeJS.ProcessEnv; readonly cwd?: string } = {},
): Program {
  const child = spawn(command, [...args], { ...options, detached: true, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  let errors = "";
  const wakers = new Set<() => void>();
  const wake = (): void => {
    for (const waker of wakers) waker();
  };
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    output += text;
    wake();
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    errors += text;
  });
  const exited = new Promise<number>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => resolve(signal === null ? (code ?? 1) : 1));
  });
  const line = (wanted: (line: string) => boolean = () => true): Promise<string> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        const found = output.split("\n").slice(0, -1).find(wanted);
        if (found !== undefined) resolve(found);
      };
      wakers.add(look);
      look();
      exited.then((code) => reject(new Error(`${command} ended with ${code} before its first line: ${lastWords(errors)}`)), reject);
    });
  return {
    child,
    output: () => output,
    errors: () => errors,
    line,
    exited,
    async stop(signal = "SIGTERM") {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const gone = once(child, "close");
      signalGroup(child, signal);
      const timer = setTimeout(() => signalGroup(child, "SIGKILL"), 20_000);
      await gone;
      clearTimeout(timer);
    },
  };
}

/** Runs a program to its end and gives its standard output; throws with its errors when it fails. */
export async function runProgram(command: string, args: readonly string[], options: { readonly cwd?: string } = {}): Promise<string> {
  const program = startProgram(command, args, options);
  const code = await program.exited;
  if (code !== 0) throw new Error(`${command} ${args.join(" ")} ended with ${code}: ${lastWords(program.errors())}`);
  return program.output();
}

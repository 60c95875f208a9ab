import { spawn } from "node:child_process";
import { EstargzError } from "@estargz/interface";

/** How a child process ended. */
export interface ChildResult {
  readonly code: number;
  readonly output: string;
}

/** How a foreground program is ended. */
export interface StopOptions {
  readonly signal?: AbortSignal | undefined;
  /** Time between the polite request and `kill`. */
  readonly timeoutMs: number;
  kill(): void;
}

/** Starts a program with this process' own terminal and waits for its end; gives 128 + n when signal n ended it. */
export async function runInForeground(
  command: string,
  args: readonly string[],
  signals: ReadonlyMap<string, number>,
  stop: StopOptions,
): Promise<number> {
  const child = spawn(command, [...args], { stdio: "inherit" });
  let timer: NodeJS.Timeout | undefined;
  const onAbort = (): void => {
    child.kill("SIGTERM");
    timer = setTimeout(() => stop.kill(), stop.timeoutMs);
  };
  stop.signal?.addEventListener("abort", onAbort, { once: true });
  try {
    return await new Promise((resolve, reject) => {
      child.once("error", (cause) => reject(notInstalled(command, cause)));
      child.once("exit", (code, signal) => resolve(signal === null ? (code ?? 1) : 128 + (signals.get(signal) ?? 0)));
    });
  } finally {
    clearTimeout(timer);
    stop.signal?.removeEventListener("abort", onAbort);
  }
}

function notInstalled(command: string, cause: Error): EstargzError {
  const missing = "code" in cause && cause.code === "ENOENT";
  return new EstargzError("UNAVAILABLE", missing ? `${command} is not installed: install it first` : `${command} cannot be started`, {
    cause,
  });
}

/** Runs a program to its end and gathers what it says. */
export function runQuietly(command: string, args: readonly string[], options: { readonly cwd?: string } = {}): Promise<ChildResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, [...args], { ...options, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    const gather = (text: string): void => {
      output += text;
    };
    child.stdout.setEncoding("utf8").on("data", gather);
    child.stderr.setEncoding("utf8").on("data", gather);
    child.once("error", (cause) => reject(notInstalled(command, cause)));
    child.once("close", (code) => resolve({ code: code ?? 1, output: output.trim() }));
  });
}

import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { EstargzError } from "@estargz/interface";
import { nodeFlags } from "./node-flags.ts";

/** Options of {@link startShaper}. */
export interface ShaperOptions {
  /** Where connections lead, like `127.0.0.1:5000`. */
  readonly target: string;
  /** Time that a byte takes to the target and back, in milliseconds. */
  readonly roundTripMs: number;
  /** What all connections share, in each direction. */
  readonly bitsPerSecond: number;
}

/** What went through a shaper. */
export interface ShaperStatistics {
  readonly connections: number;
  /** HTTP requests without encryption that were seen to begin. */
  readonly requests: number;
  /** Bytes sent to the target. */
  readonly bytesUp: number;
  /** Bytes that came from the target. */
  readonly bytesDown: number;
  /** Sockets open now, on both sides. */
  readonly open: number;
}

/** A running link. */
export interface Shaper {
  /** `127.0.0.1:PORT`: connections to it reach the target over the link. */
  readonly address: string;
  /** Counts since the start. */
  statistics(): Promise<ShaperStatistics>;
  /** Ends the process and every connection through it. Idempotent. */
  close(): Promise<void>;
}

function next<T>(child: ChildProcess): Promise<T> {
  return new Promise((resolve, reject) => {
    const ended = (): void => reject(new EstargzError("UNAVAILABLE", "the shaper's process ended before it answered"));
    child.once("exit", ended);
    child.once("message", (message) => {
      child.off("exit", ended);
      resolve(message as T);
    });
  });
}

/**
 * Starts a process that forwards TCP connections over a link with a round-trip time and a rate. The rate is shared
 * fairly by all connections of a direction, and a connection costs a round trip before its first byte.
 * A process of its own, so that the measured process and the link do not take turns.
 *
 * @throws `INVALID_ARGUMENT` for a target without a port or a rate that is not positive.
 */
export async function startShaper(options: ShaperOptions): Promise<Shaper> {
  const { target, roundTripMs, bitsPerSecond } = options;
  const colon = target.lastIndexOf(":");
  const port = Number(target.slice(colon + 1));
  if (colon <= 0 || !Number.isInteger(port)) throw new EstargzError("INVALID_ARGUMENT", `target ${target} is not host:port`);
  if (!(bitsPerSecond > 0) || !(roundTripMs >= 0)) {
    throw new EstargzError("INVALID_ARGUMENT", `bitsPerSecond ${bitsPerSecond} must be above 0 and roundTripMs ${roundTripMs} not below`);
  }
  const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";
  const file = fileURLToPath(new URL(`./shaper-process.${extension}`, import.meta.url));
  const child = fork(file, [JSON.stringify({ host: target.slice(0, colon), port, roundTripMs, bitsPerSecond })], {
    execArgv: [...nodeFlags, "--conditions=@estargz/source"],
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  const started = await next<{ readonly port: number }>(child);
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  return {
    address: `127.0.0.1:${started.port}`,
    statistics: () => {
      const answer = next<ShaperStatistics>(child);
      child.send("statistics");
      return answer;
    },
    close: async () => {
      if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
      await exited;
    },
  };
}

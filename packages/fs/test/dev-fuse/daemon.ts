import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { DaemonStart } from "./daemon-process.ts";

/** A process with a driver, as tests start and kill them. */
export interface Daemon {
  readonly process: ChildProcess;
  readonly paths: readonly string[];
  readonly connections: readonly { readonly mountPath: string; readonly takenOver: boolean }[];
  readonly keeperPid: number;
  kill(): Promise<void>;
  tell(message: "stop" | "unmount"): Promise<void>;
}

const running = new Set<ChildProcess>();
const keepers = new Set<number>();

/** Starts a daemon; resolves when its layers are attached. */
export async function startDaemon(start: DaemonStart): Promise<Daemon> {
  const child = fork(fileURLToPath(new URL("./daemon-process.ts", import.meta.url)), [JSON.stringify(start)], {
    execArgv: ["--no-memory-protection-keys", "--wasm-wrapper-tiering-budget=1000000000", "--conditions=@estargz/source"],
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  running.add(child);
  const exited = once(child, "exit");
  const [ready] = await Promise.race([
    once(child, "message"),
    exited.then(([code, signal]) => Promise.reject(new Error(`the daemon ended (${code} ${signal})`))),
  ]);
  const { paths, connections, keeperPid } = ready as Omit<Daemon, "process">;
  if (keeperPid !== undefined) keepers.add(keeperPid);
  const ended = async (): Promise<void> => {
    await exited;
    running.delete(child);
  };
  return {
    process: child,
    paths,
    connections,
    keeperPid,
    async kill() {
      child.kill("SIGKILL");
      await ended();
    },
    async tell(message) {
      child.send(message);
      await ended();
    },
  };
}

/** Remembers a keeper to be ended after the test. */
export function endLater(pid: number): void {
  keepers.add(pid);
}

/** Ends all daemons and keepers of a test. */
export async function endDaemons(): Promise<void> {
  for (const child of running) {
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
  }
  running.clear();
  for (const pid of keepers) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It ended by itself.
    }
  }
  keepers.clear();
}

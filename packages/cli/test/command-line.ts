import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { nodeFlags } from "@estargz/testing";

const main = fileURLToPath(new URL("../src/main.ts", import.meta.url));

/** What a command gave. */
export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A running command. */
export interface Running {
  readonly child: ChildProcess;
  stdout(): string;
  readonly ended: Promise<Ended>;
}

/** Starts `estargz`. Credentials of this machine's user are not used. */
export function startEstargz(args: readonly string[], env: NodeJS.ProcessEnv = {}): Running {
  const child = spawn(process.execPath, [...nodeFlags, "--conditions=@estargz/source", main, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, DOCKER_CONFIG: "/nonexistent", REGISTRY_AUTH_FILE: "/nonexistent/auth.json", ...env },
  });
  const output = { stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output.stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (output.stderr += text));
  const ended = once(child, "close").then(([code]) => ({ code: code as number | null, ...output }));
  return { child, stdout: () => output.stdout, ended };
}

/** Runs `estargz` to its end. */
export function estargz(args: readonly string[], env?: NodeJS.ProcessEnv): Promise<Ended> {
  return startEstargz(args, env).ended;
}

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { nodeFlags } from "@estargz/testing";

const main = fileURLToPath(new URL("../src/main.ts", import.meta.url));

/** A running demo with a temporary folder of its own, which tells what it leaves behind. */
export interface DemoProcess {
  readonly child: ChildProcess;
  readonly folder: string;
  /** Both outputs so far. */
  output(): string;
  /** Resolves once the output has `text`; rejects when the demo ends before. */
  shows(text: string): Promise<void>;
  /** Resolves with the exit code. */
  readonly ended: Promise<number | null>;
  /** Mounts, processes and files that are left, one a line. */
  leftovers(): Promise<string[]>;
  /** Removes the folder. */
  remove(): Promise<void>;
}

async function processesNaming(folder: string): Promise<string[]> {
  const found: string[] = [];
  for (const pid of await readdir("/proc")) {
    if (!/^\d+$/.test(pid)) continue;
    const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
    if (command.includes(folder)) found.push(`process ${pid}: ${command.replaceAll("\0", " ")}`);
  }
  return found;
}

/** Mounts, processes and files that are left of a demo, one a line. */
export async function leftoversOf(folder: string): Promise<string[]> {
  const mounts = (await readFile("/proc/self/mounts", "utf8")).split("\n").filter((line) => line.includes(folder));
  const files = (await readdir(folder)).map((name) => `file ${name}`);
  return [...mounts, ...(await processesNaming(folder)), ...files];
}

/** Starts the demo. */
export async function startDemo(args: readonly string[]): Promise<DemoProcess> {
  const folder = await mkdtemp(join(tmpdir(), "ed-"));
  const child = spawn(process.execPath, [...nodeFlags, "--conditions=@estargz/source", main, ...args], {
    env: { ...process.env, TMPDIR: folder },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
  }
  const ended = once(child, "close").then(([code]) => code as number | null);
  return {
    child,
    folder,
    ended,
    output: () => output,
    async shows(text) {
      let over = false;
      void ended.then(() => {
        over = true;
      });
      while (!output.includes(text)) {
        if (over) throw new Error(`the demo ended without ${JSON.stringify(text)}: ${output}`);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    },
    leftovers: () => leftoversOf(folder),
    remove: () => rm(folder, { recursive: true, force: true, maxRetries: 5 }),
  };
}

import { type ChildProcess, execFile, fork, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { nodeFlags } from "@estargz/testing";
import { afterEach, describe, expect, it } from "vitest";
import { loadSystemCalls } from "../../src/dev-fuse/system-calls.ts";
import { createDevFuseDriver, type DriverLayer } from "../../src/index.ts";
import { callKeeper } from "../../src/keeper/keeper-call.ts";
import type { TestEntry } from "../memory-layer.ts";
import { endDaemons, endLater, startDaemon } from "./daemon.ts";
import type { DaemonStart } from "./daemon-process.ts";
import { makeDriverLayer } from "./driver-layer.ts";
import { cleanUp, testFolder, until } from "./mounts.ts";
import { prepareLayer } from "./prepared-layer.ts";

const run = promisify(execFile);
const keeperProcess = fileURLToPath(new URL("../../src/keeper/keeper-process.ts", import.meta.url));

/** Whether a process runs, as /proc tells it: one that ended and was not waited for does not. */
function isAlive(pid: number): boolean {
  if (!existsSync(`/proc/${pid}/stat`)) return false;
  try {
    return !/\) [ZX] /u.test(readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch {
    return false;
  }
}

/** Number of descriptors that a keeper holds. */
function heldBy(socket: string): number | undefined {
  const answer = callKeeper(loadSystemCalls(), socket, { command: "list" });
  for (const fd of answer?.descriptors ?? []) loadSystemCalls().close(fd);
  return answer?.reply.entries?.length;
}

/** Files below a folder that this process has open. */
function heldBelow(folder: string): string[] {
  return readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      return target.startsWith(`${folder}/`) ? [target] : [];
    } catch {
      return [];
    }
  });
}

const readers = new Set<ChildProcess>();

afterEach(async () => {
  for (const reader of readers) reader.kill("SIGKILL");
  readers.clear();
  await endDaemons();
  cleanUp();
});

/** Files of many sizes, with contents that depend on the name. */
function files(count: number): TestEntry[] {
  return Array.from({ length: count }, (_, i) => {
    const content = Buffer.alloc((i * 7919) % 150_000, `${i}:`);
    return { path: `d${i % 17}/e${i % 5}/file-${i}`, content };
  });
}

function writeTree(folder: string, entries: readonly TestEntry[]): void {
  for (const { path, content } of entries) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), content ?? "");
  }
}

interface Setting {
  readonly folder: string;
  readonly original: string;
  readonly start: DaemonStart;
}

function setUp(layers: number, entries: readonly TestEntry[], options: Partial<DaemonStart["driver"]> = {}, local = false): Setting {
  const folder = testFolder();
  prepareLayer(join(folder, "l"), entries);
  const original = join(folder, "original");
  writeTree(original, entries);
  return {
    folder,
    original,
    start: {
      driver: { mountRoot: join(folder, "m"), stateDirectory: join(folder, "s"), ...options },
      layers: Array.from({ length: layers }, (_, i) => ({
        folder: join(folder, "l"),
        number: i + 1,
        options: { local, delayMs: 4, gate: join(folder, "gate") },
      })),
    },
  };
}

interface Reader {
  readonly process: ChildProcess;
  stop(): Promise<{ readonly error?: string; readonly operations: number }>;
}

async function startReader(kind: "direct" | "lookup", mounted: string, original: string): Promise<Reader> {
  const child = fork(fileURLToPath(new URL("./reader-process.ts", import.meta.url)), [kind, mounted, original]);
  readers.add(child);
  const messages: { error?: string; operations: number }[] = [];
  child.on("message", (message) => messages.push(message as { operations: number }));
  const exited = once(child, "exit");
  await until("the reader has started", () => messages.length > 0);
  return {
    process: child,
    async stop() {
      if (child.connected) child.send("stop");
      await exited;
      readers.delete(child);
      return messages.at(-1) ?? { operations: 0 };
    },
  };
}

const sums = async (folder: string): Promise<string> =>
  (await run("sh", ["-c", `cd ${folder} && find . -type f | sort | xargs sha256sum`], { maxBuffer: 1e8, encoding: "utf8" })).stdout;
const names = async (folder: string): Promise<string> =>
  (await run("sh", ["-c", `cd ${folder} && find . -printf '%y %s %p\\n' | grep -v '^d' | sort`], { maxBuffer: 1e8, encoding: "utf8" }))
    .stdout;

describe("restart", () => {
  it("survives 20 kills of the daemon under continuous reads, with no error and no wrong byte", async () => {
    const { original, start } = setUp(22, files(120));
    let daemon = await startDaemon(start);
    const first = daemon.paths[0] ?? "";
    const all = [
      await startReader("direct", first, original),
      await startReader("lookup", first, original),
      await startReader("direct", daemon.paths[1] ?? "", original),
    ];
    const [wantedSums, wantedNames] = await Promise.all([sums(original), names(original)]);
    for (let kill = 0; kill < 20; kill += 1) {
      // A tree that nobody has looked at yet is read across the kill.
      const fresh = daemon.paths[kill + 2] ?? "";
      const across = Promise.all([sums(fresh), names(fresh)]);
      await sleep(Math.random() * 300);
      await daemon.kill();
      daemon = await startDaemon(start);
      expect(daemon.connections.every(({ takenOver }) => takenOver)).toBe(true);
      const [gotSums, gotNames] = await across;
      expect(gotSums).toBe(wantedSums);
      expect(gotNames).toBe(wantedNames);
    }
    for (const reader of all) {
      const { error, operations } = await reader.stop();
      expect(error).toBeUndefined();
      expect(operations).toBeGreaterThan(20);
    }
    await daemon.tell("unmount");
  });

  it("finishes reads in flight after a service restart and an upgrade of the daemon", async () => {
    const { folder, original, start } = setUp(1, files(20));
    const daemon = await startDaemon(start);
    writeFileSync(join(folder, "gate"), "");
    const reading = sums(daemon.paths[0] ?? "");
    await sleep(200);
    await daemon.tell("stop");
    // Nobody serves now: more requests only wait.
    const looking = names(daemon.paths[0] ?? "");
    await sleep(100);
    rmSync(join(folder, "gate"));
    const next = await startDaemon(start);
    expect(next.paths).toEqual(daemon.paths);
    expect(next.keeperPid).toBe(daemon.keeperPid);
    expect(await reading).toBe(await sums(original));
    expect(await looking).toBe(await names(original));
    await next.tell("unmount");
  });

  it("moves to a new keeper when the keeper is upgraded, and to another when that is killed", async () => {
    const { folder, original, start } = setUp(2, files(20));
    let daemon = await startDaemon(start);
    const reader = await startReader("direct", daemon.paths[0] ?? "", original);
    const socket = join(folder, "s", "keeper.sock");
    const upgraded = spawn(process.execPath, [...nodeFlags, "--conditions=@estargz/source", keeperProcess, socket], { stdio: "inherit" });
    readers.add(upgraded);
    const pidOf = (): number | undefined => callKeeper(loadSystemCalls(), socket, { command: "hello" })?.reply.pid;
    await until("the new keeper answers", () => pidOf() === upgraded.pid);
    await until("the old keeper ended", () => !isAlive(daemon.keeperPid));
    await until("the new keeper holds the mount", () => heldBy(socket) === 2);
    await daemon.kill();
    daemon = await startDaemon(start);
    expect(daemon.connections.map(({ takenOver }) => takenOver)).toEqual([true, true]);
    // The keeper dies while the daemon lives: the daemon starts another and gives it everything.
    upgraded.kill("SIGKILL");
    await until("a third keeper holds the mount", () => pidOf() !== upgraded.pid && heldBy(socket) === 2);
    endLater(pidOf() ?? 0);
    await daemon.kill();
    daemon = await startDaemon(start);
    expect(daemon.connections.map(({ takenOver }) => takenOver)).toEqual([true, true]);
    expect(await sums(daemon.paths[1] ?? "")).toBe(await sums(original));
    const { error, operations } = await reader.stop();
    expect(error).toBeUndefined();
    expect(operations).toBeGreaterThan(0);
    await daemon.tell("unmount");
  });

  it("ends mounts with an error when daemon and keeper are both killed, and mounts anew", async () => {
    const { original, start } = setUp(1, files(20));
    const daemon = await startDaemon(start);
    const path = daemon.paths[0] ?? "";
    process.kill(daemon.keeperPid, "SIGSTOP");
    await daemon.kill();
    process.kill(daemon.keeperPid, "SIGKILL");
    await until("the connection has ended", () => !isAlive(daemon.keeperPid));
    await until("reads fail", () =>
      run("ls", [path]).then(
        () => false,
        (error: Error) => /not connected|aborted/u.test(error.message),
      ),
    );
    const next = await startDaemon(start);
    expect(next.connections.map(({ takenOver }) => takenOver)).toEqual([false, false]);
    expect(next.paths).toEqual([path]);
    expect(await sums(path)).toBe(await sums(original));
    await next.tell("unmount");
  });

  it("lets go of layers that are detached after it, whenever they were attached", async () => {
    const folder = testFolder();
    const options = { mountRoot: join(folder, "m"), stateDirectory: join(folder, "s"), workers: 2 };
    const data = join(folder, "data");
    const make = (number: number): DriverLayer => makeDriverLayer({ number, entries: files(20), directory: data });
    const first = await createDevFuseDriver(options);
    endLater(first.keeperPid ?? 0);
    const paths = [await first.attach(make(1)), await first.attach(make(2))];
    for (const path of paths) await sums(path);
    await first.ready();
    await first.close({ unmount: false });
    const second = await createDevFuseDriver(options);
    try {
      expect(second.connections.map(({ takenOver }) => takenOver)).toEqual([true, true]);
      await second.attach(make(1));
      await second.attach(make(2));
      await second.ready();
      for (let number = 3; number < 8; number += 1) {
        const later = await second.attach(make(number));
        await sums(later);
        expect(heldBelow(data)).not.toEqual([]);
        await second.detach(number);
      }
      await until("no data file is open", () => heldBelow(data).length === 0);
      // O_DIRECT asks the daemon at each read.
      const read = "dd iflag=direct bs=65536 count=1 status=none of=/dev/null";
      const script = `${read} <${paths[1]}/d10/e0/file-10; exec 3<${paths[0]}/d10/e0/file-10; echo opened; read line; ${read} <&3; echo read; read line`;
      const held = spawn("sh", ["-euc", script], { stdio: ["pipe", "pipe", "inherit"] });
      readers.add(held);
      await once(held.stdout, "data");
      expect(heldBelow(data)).toEqual([join(data, "layer-2")]);
      await Promise.all([second.detach(1), second.detach(2)]);
      await until("no data file is open", () => heldBelow(data).length === 0);
      // What is open stays readable.
      const answer = once(held.stdout, "data");
      held.stdin.write("\n");
      expect(String((await answer)[0])).toBe("read\n");
      expect(heldBelow(data)).toEqual([join(data, "layer-1")]);
    } finally {
      await second.close({ unmount: true });
    }
  });

  it("keeps big files open that the kernel reads by itself", async () => {
    const entries = [{ path: "big", content: Buffer.alloc(9_000_000, "0123456789abcdef-") }];
    const { original, start } = setUp(1, entries, {}, true);
    let daemon = await startDaemon(start);
    const path = join(daemon.paths[0] ?? "", "big");
    expect(path).toContain("/m/p/1/");
    // Opened before, opened meanwhile, closed meanwhile: the kernel refuses a second way to open the same file.
    const held = spawn("sh", ["-c", `exec 3<${path}; echo opened; read line; cmp /dev/fd/3 ${original}/big && echo same`], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    readers.add(held);
    const brief = spawn("sh", ["-c", `exec 3<${path}; echo opened; read line`], { stdio: ["pipe", "pipe", "inherit"] });
    readers.add(brief);
    await Promise.all([once(held.stdout, "data"), once(brief.stdout, "data")]);
    for (let kill = 0; kill < 3; kill += 1) {
      await daemon.kill();
      const meanwhile = run("cmp", [path, join(original, "big")]);
      if (kill === 0) brief.stdin.end("\n");
      daemon = await startDaemon(start);
      await meanwhile;
      await run("cmp", [path, join(original, "big")]);
    }
    const answer = once(held.stdout, "data");
    held.stdin.end("\n");
    expect(String((await answer)[0]).trim()).toBe("same");
    await daemon.tell("unmount");
  });

  it("serves new requests where the kernel does not send old ones again, and those wait for a kernel that does", async () => {
    const { folder, original, start } = setUp(1, files(20), { resend: false });
    let daemon = await startDaemon(start);
    writeFileSync(join(folder, "gate"), "");
    const path = daemon.paths[0] ?? "";
    let ended = false;
    const lost = sums(path).finally(() => {
      ended = true;
    });
    await sleep(300);
    await daemon.kill();
    rmSync(join(folder, "gate"));
    daemon = await startDaemon(start);
    expect(await names(path)).toBe(await names(original));
    await sleep(500);
    expect(ended).toBe(false);
    // What Linux 6.9 and later do:
    await daemon.kill();
    daemon = await startDaemon({ ...start, driver: { ...start.driver, resend: true } });
    expect(await lost).toBe(await sums(original));
    await daemon.tell("unmount");
  });
});

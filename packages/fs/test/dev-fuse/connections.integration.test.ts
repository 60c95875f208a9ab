import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { statfsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterEach, describe, expect, it } from "vitest";
import { createDevFuseDriver, type DevFuseDriver } from "../../src/dev-fuse/dev-fuse-driver.ts";
import type { DevFuseDriverOptions } from "../../src/dev-fuse/dev-fuse-options.ts";
import type { TestEntry } from "../memory-layer.ts";
import { makeDriverLayer, type TestDriverLayer } from "./driver-layer.ts";
import { cleanUp, testFolder, until } from "./mounts.ts";

const run = promisify(execFile);
const open: DevFuseDriver[] = [];

afterEach(async () => {
  for (const driver of open.splice(0)) await driver.close({ unmount: true });
  cleanUp();
});

const shell = async (script: string): Promise<string> => (await run("sh", ["-euc", script], { maxBuffer: 1e8, encoding: "utf8" })).stdout;

async function start(options: Partial<DevFuseDriverOptions> = {}): Promise<{ driver: DevFuseDriver; folder: string }> {
  const folder = testFolder();
  const driver = await createDevFuseDriver({ mountRoot: join(folder, "m"), keeper: false, workers: 2, ...options });
  open.push(driver);
  return { driver, folder };
}

const layerOf = (folder: string, number: number, entries: readonly TestEntry[], more: object = {}): TestDriverLayer =>
  makeDriverLayer({ number, entries, directory: join(folder, "data"), ...more });

const plain: TestEntry[] = [
  { path: "a/file", content: "content\n" },
  { path: "b", content: "b".repeat(300_000) },
];

describe("connections", () => {
  it("keep layers with and without extended attributes apart", async () => {
    const { driver, folder } = await start();
    const without = await driver.attach(layerOf(folder, 1, plain));
    const withThem = await driver.attach(layerOf(folder, 2, [{ path: "f", content: "x", xattrs: { "user.key": "value" } }]));
    expect([without, withThem].map((path) => path.slice(folder.length))).toEqual(["/m/n/1", "/m/x/2"]);
    expect([driver.exactPath(1), driver.exactPath(2)]).toEqual([`${folder}/m/x/1`, undefined]);
    const ask = (path: string): Promise<string> => shell(`getfattr -n user.absent ${path} 2>&1 || true`);
    expect(await ask(`${without}/b`)).toContain("Operation not supported");
    expect(await ask(`${without}/a/file`)).toContain("Operation not supported");
    expect(driver.statistics().requests["getxattr"]).toBe(1);
    expect(await shell(`getfattr --only-values -n user.key ${withThem}/f`)).toBe("value");
    expect(await ask(`${withThem}/f`)).toContain("No such attribute");
    // The exact path answers as a local file system does, and shows the same.
    expect(await ask(`${driver.exactPath(1)}/b`)).toContain("No such attribute");
    expect(await shell(`cat ${driver.exactPath(1)}/a/file; diff -r ${driver.exactPath(1)} ${without}`)).toBe("content\n");
  });

  it("show a layer at once that is attached while others are read, and hide it when it is detached", async () => {
    const { driver, folder } = await start();
    const first = await driver.attach(layerOf(folder, 1, plain));
    const root = join(folder, "m", "n");
    // Everything about the root is asked before: its listing, names that are not there yet.
    expect(await shell(`ls ${root}; ls ${root} >/dev/null; test -e ${root}/2 || echo absent`)).toBe("1\nabsent\n");
    const reading = spawn("sh", ["-c", `while :; do cat ${first}/b; done`], { stdio: ["ignore", "ignore", "ignore"] });
    try {
      const second = await driver.attach(layerOf(folder, 2, plain));
      expect(await shell(`cat ${second}/a/file; ls ${root}`)).toBe("content\n1\n2\n");
      await driver.attach(layerOf(folder, 10, plain));
      expect(await shell(`ls ${root}; cat ${root}/10/a/file`)).toBe("1\n10\n2\ncontent\n");
      const held = spawn("sh", ["-c", `exec 3<${second}/b; echo opened; read line; wc -c <&3`], { stdio: ["pipe", "pipe", "inherit"] });
      await once(held.stdout, "data");
      await driver.detach(2);
      await until("the name is gone", async () => (await shell(`test -e ${root}/2 || echo gone; ls ${root}`)) === "gone\n1\n10\n");
      // What is open stays readable.
      const answer = once(held.stdout, "data");
      held.stdin.end("\n");
      expect(String((await answer)[0]).trim()).toBe("300000");
    } finally {
      reading.kill("SIGKILL");
      await once(reading, "exit");
    }
  });

  it("lets reads of local bytes overtake those that wait for bytes", async () => {
    const { driver, folder } = await start({ workers: 1 });
    let release: () => void = () => {};
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    const local = await driver.attach(layerOf(folder, 1, plain));
    const layer = layerOf(folder, 2, [...plain, { path: "c", content: "c".repeat(100_000) }], { local: false, onFetch: () => gate });
    const remote = await driver.attach(layer);
    const waiting = [shell(`cat ${remote}/b | wc -c`), shell(`cat ${remote}/c | wc -c`)];
    await until("both wait", () => layer.fetches >= 2);
    expect(await shell(`cat ${local}/a/file; ls ${remote}`)).toBe("content\na\nb\nc\n");
    release();
    expect(await Promise.all(waiting)).toEqual(["300000\n", "100000\n"]);
  });

  it("give up a read whose caller is interrupted", async () => {
    const { driver, folder } = await start();
    let aborted = 0;
    const layer = layerOf(folder, 1, plain, {
      local: false,
      onFetch: (_inode: number, _offset: number, _length: number, signal: AbortSignal) =>
        new Promise<void>((_, reject) => signal.addEventListener("abort", () => reject(((aborted += 1), signal.reason)))),
    });
    const path = await driver.attach(layer);
    const reader = spawn("dd", [`if=${path}/b`, "of=/dev/null", "bs=128k", "iflag=direct"], { stdio: "ignore" });
    await until("it waits", () => layer.fetches > 0);
    const exited = once(reader, "exit");
    reader.kill("SIGINT");
    await exited;
    expect(aborted).toBeGreaterThan(0);
  });

  it("let a page fault go on after a signal that its caller handles, and end when it is killed", async () => {
    const { driver, folder } = await start();
    let release: () => void = () => {};
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    let aborted = 0;
    const layer = layerOf(folder, 1, [...plain, { path: "c", content: "c" }], {
      local: false,
      onFetch: (_inode: number, _offset: number, _length: number, signal: AbortSignal) =>
        new Promise<void>((resolve, reject) => {
          void gate.then(resolve);
          signal.addEventListener("abort", () => reject(((aborted += 1), signal.reason)));
        }),
    });
    const path = await driver.attach(layer);
    const program = join(folder, "touch-mapped");
    await run("gcc", ["-O1", "-o", program, fileURLToPath(new URL("touch-mapped.c", import.meta.url))]);
    const handling = spawn(program, [`${path}/b`], { stdio: ["ignore", "pipe", "inherit"] });
    const killed = spawn(program, [`${path}/c`], { stdio: "ignore" });
    await until("both wait", () => layer.fetches >= 2);
    const answer = once(handling.stdout, "data");
    const ended = once(killed, "exit");
    for (const child of [handling, killed]) child.kill("SIGUSR1");
    // The kernel tells of the first signal only: the one that ends the program has to be found out.
    killed.kill("SIGTERM");
    await ended;
    expect(handling.exitCode).toBeNull();
    release();
    expect(String((await answer)[0])).toBe("b\n");
    expect(aborted).toBe(1);
  });

  it("answers EIO when bytes cannot be brought, and goes on", async () => {
    const { driver, folder } = await start();
    let failing = true;
    const layer = layerOf(folder, 1, plain, {
      local: false,
      onFetch: async () => (failing ? Promise.reject(new Error("no network")) : undefined),
    });
    const path = await driver.attach(layer);
    await expect(shell(`cat ${path}/b`)).rejects.toThrow("Input/output error");
    failing = false;
    expect(await shell(`cat ${path}/b | wc -c`)).toBe("300000\n");
  });

  it("need no request for what was asked before, in layers without extended attributes", async () => {
    const { driver, folder } = await start();
    const entries = Array.from({ length: 500 }, (_, i) => ({ path: `d${i % 20}/f${i}`, content: `${i}` }));
    const path = await driver.attach(layerOf(folder, 1, [...entries, { path: "l", type: "symlink", link: "d1" }]));
    const script = `find ${path} -printf '%s %p\\n' | sha256sum; tar cf - -C ${path} . | sha256sum; ls -lR ${path} | sha256sum; cat ${path}/d*/f* | sha256sum; ls ${path}/absent 2>&1 || true`;
    const first = await shell(script);
    // statfs, which find(1) begins with, is the one thing that FUSE never remembers.
    const counts = (): Record<string, number> => ({ ...driver.statistics().requests, statfs: 0 });
    const before = counts();
    expect(before["read"]).toBe(500);
    expect(await shell(script)).toBe(first);
    expect(counts()).toEqual(before);
  });

  it("read big local files without requests, by passthrough", async () => {
    const { driver, folder } = await start({ stateDirectory: undefined });
    const content = Buffer.alloc(9_000_000, "0123456789abcdef-");
    const path = await driver.attach(layerOf(folder, 1, [{ path: "big", content }]));
    expect(path).toBe(join(folder, "m", "p", "1"));
    expect(await shell(`cmp ${path}/big ${folder}/data/layer-1.* && echo same`)).toBe("same\n");
    expect(driver.statistics().requests["read"]).toBeUndefined();
    expect(await shell(`tail -c 3 ${path}/big`)).toBe(content.subarray(-3).toString());
    const merged = `${folder}/o/merged`;
    await shell(
      `mkdir -p ${folder}/o/upper ${folder}/o/work ${merged}; mount -t overlay overlay -o lowerdir=${path},upperdir=${folder}/o/upper,workdir=${folder}/o/work ${merged}`,
    );
    expect(await shell(`wc -c <${merged}/big; printf x >>${merged}/big; tail -c 2 ${merged}/big`)).toBe(
      `9000000\n${content.subarray(-1).toString()}x`,
    );
    expect(driver.statistics().requests["read"]).toBeUndefined();
  });

  it("give the disk blocks of a big file back that is removed after it was read by passthrough", async () => {
    const { driver, folder } = await start();
    await shell(`mkdir ${folder}/data; mount -t tmpfs none ${folder}/data`);
    const used = (): number => {
      const { blocks, bfree, bsize } = statfsSync(join(folder, "data"));
      return (blocks - bfree) * bsize;
    };
    const empty = used();
    const path = await driver.attach(layerOf(folder, 1, [{ path: "big", content: Buffer.alloc(9_000_000, "x") }]));
    expect(await shell(`for i in 1 2 3; do wc -c <${path}/big; cat ${path}/big >/dev/null; done`)).toBe("9000000\n".repeat(3));
    expect(driver.statistics().requests["read"]).toBeUndefined();
    await shell(`rm -r ${folder}/data/*`);
    await until("the blocks are given back", () => used() - empty < 100_000);
  });

  it("keep the way a big file was opened as long as it is open", async () => {
    const { driver, folder } = await start();
    const layer = layerOf(folder, 1, [{ path: "big", content: Buffer.alloc(9_000_000, "x") }], { local: false });
    const path = await driver.attach(layer);
    const held = spawn("sh", ["-c", `exec 3<${path}/big; echo opened; read line; head -c 9000000 <&3 | wc -c`], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    await once(held.stdout, "data");
    expect(await shell(`wc -c <${path}/big; cat ${path}/big | wc -c`)).toBe("9000000\n9000000\n");
    expect(layer.fetches).toBeGreaterThan(0);
    const answer = once(held.stdout, "data");
    held.stdin.end("\n");
    expect(String((await answer)[0]).trim()).toBe("9000000");
  });

  it("end with the process that mounts through fusermount3, without root", async () => {
    const folder = testFolder();
    const script = `
      mount -t tmpfs none ${folder}; mkdir ${folder}/dev ${folder}/m; mknod -m 666 ${folder}/dev/fuse c 10 229; mknod -m 666 ${folder}/dev/null c 1 3
      chown 65534:65534 ${folder} ${folder}/m; mount --bind ${folder}/dev/fuse /dev/fuse; chmod 666 /dev/fuse
      exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@"`;
    const main = new URL("./rootless-process.ts", import.meta.url).pathname;
    const { stdout } = await run(
      "unshare",
      [
        "-m",
        "sh",
        "-euc",
        script,
        "sh",
        process.execPath,
        "--no-memory-protection-keys",
        "--wasm-wrapper-tiering-budget=1000000000",
        "--conditions=@estargz/source",
        main,
        folder,
      ],
      {
        encoding: "utf8",
      },
    );
    expect(JSON.parse(stdout)).toEqual({ listing: "a\nb\n", content: "content\n", after: "" });
  });

  it("refuse everything once a thread has ended by itself", async () => {
    const failures: Error[] = [];
    const { driver, folder } = await start({ onFailure: (error) => failures.push(error) });
    await driver.attach(layerOf(folder, 1, plain));
    const broken = layerOf(folder, 2, plain);
    // No bitmap at all: the threads that look at it end.
    const layer = { ...broken, store: { ...broken.store, bitmap: -1 as unknown as SharedArrayBuffer } };
    await expect(driver.attach(layer)).rejects.toMatchObject({ code: "UNAVAILABLE" });
    await until("every thread has ended", () => failures.length === 3);
    expect(String(failures[0])).toContain("Invalid typed array length");
    await expect(driver.attach(layerOf(folder, 3, plain))).rejects.toMatchObject({ code: "UNAVAILABLE" });
    await expect(driver.detach(1)).rejects.toMatchObject({ code: "UNAVAILABLE" });
  });

  it("refuse a number twice, and everything once closed", async () => {
    const { driver, folder } = await start();
    await driver.attach(layerOf(folder, 1, plain));
    await expect(driver.attach(layerOf(folder, 1, plain))).rejects.toThrow("attached before");
    await driver.close({ unmount: true });
    await expect(driver.attach(layerOf(folder, 2, plain))).rejects.toThrow("closed");
  });
});

import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, open, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Logger } from "@estargz/interface";
import { afterEach, beforeEach, describe, expect, it, type TestContext } from "vitest";
import { createLayerFileSystem, type LayerFileSystemEvent, type LayerFileSystemOptions, type LocalLayerFileSystem } from "../src/index.ts";
import { randomBytes } from "./content.ts";
import { makeLayer } from "./memory-layer.ts";
import { TestSource, until } from "./test-source.ts";

const run = promisify(execFile);
const content = randomBytes(1, 5_000_000);
const sum = createHash("sha256").update(content).digest("hex");
const small = Array.from({ length: 20 }, (_, at) => ({ path: `small/${at}`, content: randomBytes(at, 20_000) }));
const made = makeLayer([{ path: "file", content }, ...small], { chunkSize: 200_000 });
let base: string;
let disk: string;
let isMounted: boolean;
let source: TestSource;
let system: LocalLayerFileSystem | undefined;
let warnings: string[];
let events: LayerFileSystemEvent[];

beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), "estargz-failing-"));
  disk = join(base, "disk");
  await mkdir(disk);
  isMounted = false;
  source = new TestSource();
  warnings = [];
  events = [];
});

afterEach(async () => {
  await system?.close({ unmount: true });
  system = undefined;
  if (isMounted) await run("umount", ["-l", disk]);
  await rm(base, { recursive: true, force: true });
});

/** Mounts an ext4 of its own, whose failing concerns nobody else; leaves the test out where there are no loop devices. */
async function mountExt4(context: TestContext): Promise<void> {
  const image = join(base, "image");
  const file = await open(image, "w");
  await file.truncate(64 * 1024 * 1024);
  await file.close();
  try {
    await run("mkfs.ext4", ["-q", image]);
    await run("mount", ["-o", "loop,errors=remount-ro", image, disk]);
  } catch {
    context.skip("no ext4 on a loop device here");
  }
  isMounted = true;
}

async function start(options: Partial<LayerFileSystemOptions> = {}): Promise<string> {
  const nothing = (): void => undefined;
  const logger: Logger = { debug: nothing, info: nothing, error: nothing, warn: (_fields, message) => warnings.push(message) };
  system = await createLayerFileSystem({
    root: join(disk, "root"),
    mountRoot: join(base, "mounts"),
    source,
    background: "off",
    devFuse: { keeper: false },
    logger,
    onEvent: (event) => void events.push(event),
    ...options,
  });
  const location = source.add(made.digest, made.blob);
  return (await system.attach({ owner: "a", locations: [location], tocDigest: made.layer.tocDigest })).path;
}

async function readAll(path: string): Promise<void> {
  expect((await run("sha256sum", [join(path, "file")])).stdout.slice(0, 64)).toBe(sum);
  for (const file of small) expect((await readFile(join(path, file.path))).equals(file.content)).toBe(true);
}

const refusals = (): string[] => events.flatMap((event) => (event.type === "store-refused" ? [event.code] : []));
const told = (text: string): number => warnings.filter((message) => message.includes(text)).length;

describe("a mounted layer", () => {
  it("is read whole although its disk turned read-only by an error, which is said once", async (context) => {
    await mountExt4(context);
    const path = await start();
    expect((await readFile(join(path, "small", "1"))).equals(randomBytes(1, 20_000))).toBe(true);
    const [{ name }] = JSON.parse((await run("findmnt", ["-J", "-o", "SOURCE", disk])).stdout).filesystems.map(
      (one: { source: string }) => ({ name: one.source.split("/").at(-1) }),
    ) as [{ name: string }];
    await writeFile(`/sys/fs/ext4/${name}/trigger_fs_error`, "a test");
    await expect(writeFile(join(disk, "more"), "x")).rejects.toMatchObject({ code: "EROFS" });
    await readAll(path);
    await readAll(path);
    await until("the read-only disk is told", () => refusals().length > 0);
    expect(refusals()).toEqual(["EROFS"]);
    expect(told("the disk is read-only")).toBe(1);
  });

  it("is shown and read whole by a process that starts on a disk that is read-only already", async () => {
    await run("mount", ["-t", "tmpfs", "-o", "size=32m", "tmpfs", disk]);
    isMounted = true;
    const before = await start();
    expect((await readFile(join(before, "small", "1"))).equals(randomBytes(1, 20_000))).toBe(true);
    await system?.close({ unmount: true });
    system = undefined;
    await run("mount", ["-o", "remount,ro", disk]);
    await expect(writeFile(join(disk, "more"), "x")).rejects.toMatchObject({ code: "EROFS" });
    const path = await start();
    await readAll(path);
    await until("the read-only disk is told", () => refusals().length > 0);
    expect(refusals()).toEqual(["EROFS"]);
  });
});

import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Logger } from "@estargz/interface";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createLayerFileSystem, type LayerFileSystemOptions, type LocalLayerFileSystem } from "../src/index.ts";
import { randomBytes } from "./content.ts";
import { makeLayer } from "./memory-layer.ts";
import { TestSource, until } from "./test-source.ts";

const run = promisify(execFile);
const SIZE = 12_000_000;
const content = randomBytes(1, SIZE);
const sum = createHash("sha256").update(content).digest("hex");
const made = makeLayer(
  [{ path: "file", content }, ...Array.from({ length: 50 }, (_, at) => ({ path: `small/${at}`, content: randomBytes(at, 20_000) }))],
  {
    chunkSize: 200_000,
  },
);

let base: string;
let disk: string;
let source: TestSource;
let system: LocalLayerFileSystem | undefined;
let warnings: string[];

beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), "estargz-disk-"));
  disk = join(base, "disk");
  await mkdir(disk);
  await run("mount", ["-t", "tmpfs", "-o", "size=8m", "tmpfs", disk]);
  source = new TestSource();
  warnings = [];
});

afterEach(async () => {
  await system?.close({ unmount: true });
  system = undefined;
  await run("umount", ["-l", disk]);
  await rm(base, { recursive: true, force: true });
});

async function start(options: Partial<LayerFileSystemOptions> = {}): Promise<string> {
  const nothing = (): void => undefined;
  const logger: Logger = { debug: nothing, info: nothing, error: nothing, warn: (_fields, message) => warnings.push(message) };
  system = await createLayerFileSystem({
    root: join(disk, "root"),
    mountRoot: join(base, "mounts"),
    source,
    devFuse: { keeper: false },
    logger,
    ...options,
  });
  const location = source.add(made.digest, made.blob);
  return (await system.attach({ owner: "a", locations: [location], tocDigest: made.layer.tocDigest })).path;
}

async function sumOf(path: string): Promise<string> {
  return (await run("sha256sum", [path])).stdout.slice(0, 64);
}

async function readAll(path: string): Promise<void> {
  expect(await sumOf(join(path, "file"))).toBe(sum);
  for (let at = 0; at < 50; at++) expect(await readFile(join(path, "small", String(at)))).toEqual(randomBytes(at, 20_000));
}

describe("a mounted layer", () => {
  it("is read whole although the disk is full, and says so", async () => {
    const path = await start({ background: "full" });
    await readAll(path);
    await until("the full disk is told", () => warnings.some((message) => message.includes("disk is full")));
    await readAll(path);
  });

  it("is read whole although the disk became read-only", async () => {
    const path = await start({ background: "off" });
    expect(await readFile(join(path, "small", "1"))).toEqual(randomBytes(1, 20_000));
    await run("mount", ["-o", "remount,ro", disk]).catch(async () => {
      // Files are open for writing: fill the disk instead of waiting for them to be closed.
      await run("dd", ["if=/dev/zero", `of=${join(disk, "fill")}`, "bs=64k"]).catch(() => undefined);
    });
    await readAll(path);
    expect(warnings.length).toBeGreaterThan(0);
  });

  it("is opened and read whole on a disk that was full before", async () => {
    await mkdir(join(disk, "root"));
    await run("dd", ["if=/dev/zero", `of=${join(disk, "fill")}`, "bs=64k"]).catch(() => undefined);
    const path = await start({ background: "full" });
    await readAll(path);
  });

  it("is read whole although its folder was deleted under it", async () => {
    const path = await start({ background: "off" });
    expect(await readFile(join(path, "small", "1"))).toEqual(randomBytes(1, 20_000));
    await rm(join(disk, "root", "layers"), { recursive: true });
    await readAll(path);
  });

  it("is evicted while it is read, and stays under its limit", async () => {
    const maxBytes = 4_000_000;
    const path = await start({ background: "off", maxBytes });
    for (let round = 0; round < 2; round++) {
      await readAll(path);
      expect(system?.statistics().localBytes).toBeLessThanOrEqual(maxBytes);
      const { stdout } = await run("du", ["-s", "--block-size=1", join(disk, "root", "layers")]);
      expect(Number.parseInt(stdout, 10)).toBeLessThanOrEqual(maxBytes + 300_000);
    }
  });

  it("lets a read that waits be killed", async () => {
    const path = await start({ background: "off" });
    source.fault = () => new Promise(() => undefined);
    const reader = run("dd", [`if=${join(path, "file")}`, "of=/dev/null", "bs=4k", "count=1"], { timeout: 1000, killSignal: "SIGKILL" });
    await expect(reader).rejects.toMatchObject({ killed: true });
    source.fault = undefined;
  });
});

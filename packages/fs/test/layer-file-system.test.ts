import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createLayerFileSystem, type LayerFileSystemOptions, type LocalLayerFileSystem } from "../src/index.ts";
import { randomBytes } from "./content.ts";
import { FakeDriver } from "./fake-driver.ts";
import { makeLayer, type TestEntry } from "./memory-layer.ts";
import { TestSource, until } from "./test-source.ts";

let root: string;
let source: TestSource;
let driver: FakeDriver;
let open: LocalLayerFileSystem[];

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "estargz-fs-"));
  source = new TestSource();
  driver = new FakeDriver();
  open = [];
});

afterEach(async () => {
  for (const files of open) await files.close({ unmount: true });
  await rm(root, { recursive: true, force: true });
});

async function start(options: Partial<LayerFileSystemOptions> = {}): Promise<LocalLayerFileSystem> {
  const files = await createLayerFileSystem({ root, source, driver, background: "off", ...options });
  open.push(files);
  return files;
}

const files: TestEntry[] = [
  { path: "bin/big", content: randomBytes(1, 5 * 1024 * 1024) },
  { path: "etc/small", content: randomBytes(2, 1000) },
  { path: "etc/middle", content: randomBytes(3, 300_000) },
  { path: "etc/empty", content: "" },
];

describe("createLayerFileSystem", () => {
  it("shows a layer and fetches what is read, once", async () => {
    const { layer, blob, digest } = makeLayer(files, { chunkSize: 65_536 });
    const location = source.add(digest, blob);
    const system = await start();
    const attached = await system.attach({ owner: "a", locations: [location], tocDigest: layer.tocDigest });
    expect(attached).toMatchObject({ layerDigest: digest, tocDigest: layer.tocDigest, path: "/fake/1" });
    expect(source.requests).toHaveLength(1);
    for (const file of files) expect(await driver.read(attached.path, file.path)).toEqual(Buffer.from(file.content ?? ""));
    const { length } = source.requests;
    for (const file of files) expect(await driver.read(attached.path, file.path)).toEqual(Buffer.from(file.content ?? ""));
    expect(source.requests).toHaveLength(length);
    await until("the last chunk is counted", () => system.coverage("a")?.localBytes === system.coverage("a")?.totalBytes);
  });

  it("fills everything in the background", async () => {
    const { layer, blob, digest } = makeLayer(files, { chunkSize: 4096, pack: true });
    const system = await start({ background: "full" });
    await system.attach({ owner: "a", locations: [source.add(digest, blob)], tocDigest: layer.tocDigest });
    await until("all is local", () => system.coverage("a")?.localBytes === system.coverage("a")?.totalBytes);
    expect(driver.misses).toBe(0);
  });

  it("goes on after a restart without the source", async () => {
    const { layer, blob, digest } = makeLayer(files, { chunkSize: 65_536 });
    const first = await start();
    const { path } = await first.attach({ owner: "a", locations: [source.add(digest, blob)], tocDigest: layer.tocDigest });
    await driver.read(path, "etc/middle");
    await first.close();
    source.blobs.clear();
    const { length } = source.requests;
    const second = await start();
    expect(second.get("a")?.path).toBe(path);
    expect(driver.isReady).toBe(true);
    expect(await driver.read(path, "etc/middle")).toEqual(files[2]?.content);
    expect(source.requests).toHaveLength(length);
    await expect(driver.read(path, "etc/small")).rejects.toMatchObject({ code: "NOT_FOUND" });
    source.add(digest, blob);
    expect(await driver.read(path, "etc/small")).toEqual(files[1]?.content);
  });
});

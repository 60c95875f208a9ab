import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { createLayerFileSystem, type LocalLayerFileSystem } from "../src/index.ts";
import { randomBytes } from "./content.ts";
import { FakeDriver } from "./fake-driver.ts";
import { makeLayer } from "./memory-layer.ts";
import { TestSource, until } from "./test-source.ts";

let root: string;
let files: LocalLayerFileSystem | undefined;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "estargz-idle-"));
});

afterEach(async () => {
  await files?.close({ unmount: true });
  await rm(root, { recursive: true, force: true });
});

const threads = async (): Promise<number> => (await readdir("/proc/self/task")).length;

it("threads end when there is nothing to do, and are there again when there is", async () => {
  const source = new TestSource();
  const driver = new FakeDriver();
  const content = randomBytes(1, 300_000);
  const first = makeLayer([{ path: "file", content }], { chunkSize: 10_000 });
  const second = makeLayer([{ path: "other", content }], { chunkSize: 20_000 });
  const before = await threads();
  files = await createLayerFileSystem({ root, source, driver, background: "off", decoderThreads: 3, threadIdleMs: 200 });
  const attached = await files.attach({
    owner: "a",
    locations: [source.add(first.digest, first.blob)],
    tocDigest: first.layer.tocDigest,
  });
  await until("the opener and three decoders have ended", async () => (await threads()) <= before);
  // The layer was made known to threads that are gone.
  expect(await driver.read(attached.path, "file")).toEqual(Buffer.from(content));
  await until("the threads have ended again", async () => (await threads()) <= before);
  const other = await files.attach({ owner: "b", locations: [source.add(second.digest, second.blob)], tocDigest: second.layer.tocDigest });
  expect(await driver.read(other.path, "other")).toEqual(Buffer.from(content));
});

it("threads stay while bytes are on their way", async () => {
  const source = new TestSource();
  const driver = new FakeDriver();
  const content = randomBytes(2, 300_000);
  const { layer, blob, digest } = makeLayer([{ path: "file", content }], { chunkSize: 10_000 });
  files = await createLayerFileSystem({ root, source, driver, background: "off", threadIdleMs: 20 });
  const attached = await files.attach({ owner: "a", locations: [source.add(digest, blob)], tocDigest: layer.tocDigest });
  source.pieceBytes = 50_000;
  source.beforePiece = () => new Promise((resolve) => setTimeout(resolve, 100));
  expect(await driver.read(attached.path, "file")).toEqual(Buffer.from(content));
});

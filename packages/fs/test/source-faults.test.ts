import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EstargzError } from "@estargz/interface";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createLayerFileSystem, type LayerFileSystemOptions, type LocalLayerFileSystem } from "../src/index.ts";
import { randomBytes } from "./content.ts";
import { FakeDriver } from "./fake-driver.ts";
import { makeLayer } from "./memory-layer.ts";
import { TestSource, until, untilAborted } from "./test-source.ts";

let root: string;
let source: TestSource;
let driver: FakeDriver;
let open: LocalLayerFileSystem[];

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "estargz-source-"));
  source = new TestSource();
  driver = new FakeDriver();
  open = [];
});

afterEach(async () => {
  for (const files of open) await files.close({ unmount: true });
  await rm(root, { recursive: true, force: true });
});

const content = randomBytes(5, 2_000_000);
const made = makeLayer(
  [
    { path: "file", content },
    { path: "other", content: randomBytes(6, 50_000) },
  ],
  { chunkSize: 64_000 },
);

async function start(options: Partial<LayerFileSystemOptions> = {}): Promise<{ system: LocalLayerFileSystem; path: string }> {
  const system = await createLayerFileSystem({ root, source, driver, background: "off", ...options });
  open.push(system);
  const location = source.add(made.digest, made.blob);
  const { path } = await system.attach({ owner: "a", locations: [location], tocDigest: made.layer.tocDigest });
  return { system, path };
}

describe("an unreachable source", () => {
  it("fails reads after the bound, serves local data meanwhile, and works again by itself", async () => {
    const { path } = await start({ sourceTimeoutMs: 300 });
    expect(await driver.read(path, "other")).toEqual(randomBytes(6, 50_000));
    source.fault = () => {
      throw new EstargzError("REGISTRY_UNAVAILABLE", "connection refused");
    };
    const failing = driver.read(path, "file", 0, 100);
    expect(await driver.read(path, "other")).toEqual(randomBytes(6, 50_000));
    await expect(failing).rejects.toMatchObject({ code: "UNAVAILABLE" });
    source.fault = undefined;
    expect(await driver.read(path, "file", 0, 100)).toEqual(content.subarray(0, 100));
  });

  it("is asked again within the bound, so that a short outage is only a wait", async () => {
    const { path } = await start();
    let failures = 0;
    source.fault = () => {
      failures++;
      if (failures <= 4) throw new EstargzError("REGISTRY_UNAVAILABLE", "connection refused");
    };
    expect(await driver.read(path, "file", 0, 100)).toEqual(content.subarray(0, 100));
    expect(failures).toBe(5);
  });

  it("lets a waiting read be interrupted, while others go on to wait for the same bytes", async () => {
    const { path } = await start();
    let answer: () => void = () => undefined;
    source.fault = () =>
      new Promise((resolve) => {
        answer = resolve;
      });
    const interrupt = new AbortController();
    const first = driver.read(path, "file", 0, 100, interrupt.signal);
    const second = driver.read(path, "file", 50, 100);
    await until("the request is made", () => source.requests.length === 2);
    interrupt.abort(new Error("killed"));
    await expect(first).rejects.toThrow("killed");
    answer();
    expect(await second).toEqual(content.subarray(50, 150));
    expect(source.requests).toHaveLength(2);
  });

  it("that stalls is asked again", async () => {
    const { path } = await start({ stallTimeoutMs: 200 });
    let stalled = 0;
    source.fault = async (_request, signal) => {
      stalled++;
      if (stalled === 1) await untilAborted(signal);
    };
    expect(await driver.read(path, "file", 0, 100)).toEqual(content.subarray(0, 100));
  });

  it("is replaced by the next location, and a lasting refusal of all is told at once", async () => {
    const { system, path } = await start({ sourceTimeoutMs: 600_000 });
    source.fault = (request) => {
      if (request.reference !== "mirror.example/image") throw new EstargzError("FORBIDDEN", "no");
    };
    await expect(driver.read(path, "file", 0, 100)).rejects.toMatchObject({ code: "FORBIDDEN" });
    await system.attach({ owner: "b", locations: [source.location(made.digest, "mirror.example/image")], tocDigest: made.layer.tocDigest });
    expect(await driver.read(path, "file", 0, 100)).toEqual(content.subarray(0, 100));
  });

  it("does not stop other layers", async () => {
    const { system, path } = await start();
    const other = makeLayer([{ path: "x", content: "other layer" }]);
    const location = source.add(other.digest, other.blob);
    const second = await system.attach({ owner: "b", locations: [location], tocDigest: other.layer.tocDigest });
    source.fault = async (request, signal) => {
      if (request.digest === made.digest) await untilAborted(signal);
    };
    const stop = new AbortController();
    const stuck = Array.from({ length: 64 }, (_, at) => driver.read(path, "file", at * 30_000, 10, stop.signal).catch(() => undefined));
    expect(await driver.read(second.path, "x")).toEqual(Buffer.from("other layer"));
    stop.abort(new Error("enough"));
    await Promise.all(stuck);
  });
});

describe("a read that misses", () => {
  it("joins the background transfer that is bringing its bytes, and never cancels it", async () => {
    let release: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    source.pieceBytes = 16_000;
    source.beforePiece = async (request, at) => {
      if (request.priority === 0 && at >= 32_000) await gate;
    };
    const { path, system } = await start({ background: "full", maxBackgroundRequests: 1 });
    await until("the background is under way", () => source.requests.some((request) => request.priority === 0));
    const early = driver.read(path, "file", 0, 100);
    release();
    expect(await early).toEqual(content.subarray(0, 100));
    await until("all is local", () => system.coverage("a")?.localBytes === system.coverage("a")?.totalBytes);
    expect(source.requests.filter((request) => request.priority === 0)).toHaveLength(1);
  });

  it("overtakes the background when its bytes are far away in it", async () => {
    let release: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    source.pieceBytes = 16_000;
    source.beforePiece = async (request, at) => {
      if (request.priority === 0 && at >= 64_000) await gate;
    };
    // Far enough that no slow machine makes waiting seem sooner.
    const far = makeLayer(
      [
        { path: "file", content: randomBytes(5, 8_000_000) },
        { path: "other", content: randomBytes(6, 50_000) },
      ],
      { chunkSize: 64_000, level: 1 },
    );
    const system = await createLayerFileSystem({ root, source, driver, background: "full", maxBackgroundRequests: 1 });
    open.push(system);
    const { path } = await system.attach({ owner: "a", locations: [source.add(far.digest, far.blob)], tocDigest: far.layer.tocDigest });
    await until("the background is under way", () => source.requests.some((request) => request.priority === 0));
    expect(await driver.read(path, "other", 0, 100)).toEqual(randomBytes(6, 50_000).subarray(0, 100));
    release();
  });
});

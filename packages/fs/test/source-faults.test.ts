import { EstargzError } from "@estargz/interface";
import { describe, expect, it } from "vitest";
import { type LayerFileSystemOptions, type LocalLayerFileSystem } from "../src/index.ts";
import { randomBytes } from "./content.ts";
import { useFileSystem } from "./file-system-fixture.ts";
import { makeLayer } from "./memory-layer.ts";
import { until, untilAborted } from "./test-source.ts";

const fixture = useFileSystem();

const content = randomBytes(5, 2_000_000);
const made = makeLayer(
  [
    { path: "file", content },
    { path: "other", content: randomBytes(6, 50_000) },
  ],
  { chunkSize: 64_000 },
);

function start(options?: Partial<LayerFileSystemOptions>): Promise<{ system: LocalLayerFileSystem; path: string }> {
  return fixture.attach(made, options);
}

describe("an unreachable source", () => {
  it("fails reads after the bound, serves local data meanwhile, and works again by itself", async () => {
    const { path } = await start({ sourceTimeoutMs: 300 });
    expect(await fixture.driver.read(path, "other")).toEqual(randomBytes(6, 50_000));
    fixture.source.fault = () => {
      throw new EstargzError("REGISTRY_UNAVAILABLE", "connection refused");
    };
    const failing = fixture.driver.read(path, "file", 0, 100);
    expect(await fixture.driver.read(path, "other")).toEqual(randomBytes(6, 50_000));
    await expect(failing).rejects.toMatchObject({ code: "UNAVAILABLE" });
    fixture.source.fault = undefined;
    expect(await fixture.driver.read(path, "file", 0, 100)).toEqual(content.subarray(0, 100));
  });

  it("is asked again within the bound, so that a short outage is only a wait", async () => {
    const { path } = await start();
    let failures = 0;
    fixture.source.fault = () => {
      failures++;
      if (failures <= 4) throw new EstargzError("REGISTRY_UNAVAILABLE", "connection refused");
    };
    expect(await fixture.driver.read(path, "file", 0, 100)).toEqual(content.subarray(0, 100));
    expect(failures).toBe(5);
  });

  it("lets a waiting read be interrupted, while others go on to wait for the same bytes", async () => {
    const { path } = await start();
    let answer: () => void = () => undefined;
    fixture.source.fault = () =>
      new Promise((resolve) => {
        answer = resolve;
      });
    const interrupt = new AbortController();
    const first = fixture.driver.read(path, "file", 0, 100, interrupt.signal);
    const second = fixture.driver.read(path, "file", 50, 100);
    await until("the request is made", () => fixture.source.requests.length === 2);
    interrupt.abort(new Error("killed"));
    await expect(first).rejects.toThrow("killed");
    answer();
    expect(await second).toEqual(content.subarray(50, 150));
    expect(fixture.source.requests).toHaveLength(2);
  });

  it("that stalls is asked again", async () => {
    const { path } = await start({ stallTimeoutMs: 200 });
    let stalled = 0;
    fixture.source.fault = async (_request, signal) => {
      stalled++;
      if (stalled === 1) await untilAborted(signal);
    };
    expect(await fixture.driver.read(path, "file", 0, 100)).toEqual(content.subarray(0, 100));
  });

  it("is replaced by the next location, and a lasting refusal of all is told at once", async () => {
    const { system, path } = await start({ sourceTimeoutMs: 600_000 });
    fixture.source.fault = (request) => {
      if (request.reference !== "mirror.example/image") throw new EstargzError("FORBIDDEN", "no");
    };
    await expect(fixture.driver.read(path, "file", 0, 100)).rejects.toMatchObject({ code: "FORBIDDEN" });
    await system.attach({
      owner: "b",
      locations: [fixture.source.location(made.digest, "mirror.example/image")],
      tocDigest: made.layer.tocDigest,
    });
    expect(await fixture.driver.read(path, "file", 0, 100)).toEqual(content.subarray(0, 100));
  });

  it("does not stop other layers", async () => {
    const { system, path } = await start();
    const other = makeLayer([{ path: "x", content: "other layer" }]);
    const location = fixture.source.add(other.digest, other.blob);
    const second = await system.attach({ owner: "b", locations: [location], tocDigest: other.layer.tocDigest });
    fixture.source.fault = async (request, signal) => {
      if (request.digest === made.digest) await untilAborted(signal);
    };
    const stop = new AbortController();
    const stuck = Array.from({ length: 64 }, (_, at) =>
      fixture.driver.read(path, "file", at * 30_000, 10, stop.signal).catch(() => undefined),
    );
    expect(await fixture.driver.read(second.path, "x")).toEqual(Buffer.from("other layer"));
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
    fixture.source.pieceBytes = 16_000;
    fixture.source.beforePiece = async (request, at) => {
      if (request.priority === 0 && at >= 32_000) await gate;
    };
    const { path, system } = await start({ background: "full", maxBackgroundRequests: 1 });
    await until("the background is under way", () => fixture.source.requests.some((request) => request.priority === 0));
    const early = fixture.driver.read(path, "file", 0, 100);
    release();
    expect(await early).toEqual(content.subarray(0, 100));
    await until("all is local", () => system.coverage("a")?.localBytes === system.coverage("a")?.totalBytes);
    expect(fixture.source.requests.filter((request) => request.priority === 0)).toHaveLength(1);
  });

  it("overtakes the background when its bytes are far away in it", async () => {
    let release: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    fixture.source.pieceBytes = 16_000;
    fixture.source.beforePiece = async (request, at) => {
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
    const system = await fixture.start({ background: "full", maxBackgroundRequests: 1 });
    const { path } = await system.attach({
      owner: "a",
      locations: [fixture.source.add(far.digest, far.blob)],
      tocDigest: far.layer.tocDigest,
    });
    await until("the background is under way", () => fixture.source.requests.some((request) => request.priority === 0));
    expect(await fixture.driver.read(path, "other", 0, 100)).toEqual(randomBytes(6, 50_000).subarray(0, 100));
    release();
  });
});

import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { randomBytes } from "./content.ts";
import { useFileSystem } from "./file-system-fixture.ts";
import { makeLayer } from "./memory-layer.ts";
import { until } from "./test-source.ts";

const fixture = useFileSystem();
const { start } = fixture;

const big = randomBytes(1, 4_000_000);
const bigLayer = makeLayer([{ path: "file", content: big }], { chunkSize: 16_384 });
const manyFiles = Array.from({ length: 200 }, (_, at) => ({ path: `d${Math.floor(at / 20)}/${at}`, content: randomBytes(at, 3000) }));
const manyLayer = makeLayer(manyFiles, { prefetchFiles: 40 });

/** Requests after the opening one. */
const asked = (): { offset: number; length: number; priority: number | undefined }[] => fixture.source.requests.slice(1);

async function settled(): Promise<void> {
  let before = -1;
  await until("nothing more is asked", async () => {
    const now = fixture.source.requests.length;
    const same = now === before;
    before = now;
    await new Promise((resolve) => setTimeout(resolve, 100));
    return same;
  });
}

describe("prefetch", () => {
  it("brings what lies before the landmark, and nobody waits for it", async () => {
    const system = await start();
    await system.attach({
      owner: "a",
      locations: [fixture.source.add(manyLayer.digest, manyLayer.blob)],
      tocDigest: manyLayer.layer.tocDigest,
    });
    const share = manyFiles.slice(0, 40).reduce((sum, file) => sum + file.content.length, 0);
    await until("the first files are local", () => (system.coverage("a")?.localBytes ?? 0) >= share);
    await settled();
    expect(system.coverage("a")?.localBytes).toBe(share);
    expect(asked().map((request) => request.priority)).toEqual([50]);
  });

  it("takes a number of bytes where there is no landmark, and nothing by default", async () => {
    const system = await start();
    const locations = [fixture.source.add(bigLayer.digest, bigLayer.blob)];
    await system.attach({ owner: "a", locations, tocDigest: bigLayer.layer.tocDigest });
    await settled();
    expect(asked()).toEqual([]);
    await system.attach({ owner: "b", locations, tocDigest: bigLayer.layer.tocDigest, prefetchBytes: 100_000 });
    await until("the bytes are asked for", () => asked().length > 0);
    await settled();
    expect(system.statistics().fill.bytes.prefetch).toBeGreaterThan(90_000);
    expect(system.statistics().fill.bytes.prefetch).toBeLessThan(130_000);
  });

  it("follows the order that a former start read in", async () => {
    const locations = [fixture.source.add(bigLayer.digest, bigLayer.blob)];
    const first = await start();
    const { path } = await first.attach({ owner: "a", locations, tocDigest: bigLayer.layer.tocDigest });
    await fixture.driver.read(path, "file", 3_000_000, 100);
    await fixture.driver.read(path, "file", 1_000_000, 100);
    await first.detach("a");
    await first.close();
    // Its data is gone, what it read is still known.
    const { open: openFile, readdir } = await import("node:fs/promises");
    const [key] = await readdir(join(fixture.root, "layers"));
    const bitmap = await openFile(join(fixture.root, "layers", key ?? "", "bitmap"), "r+");
    const { size } = await bitmap.stat();
    await bitmap.write(Buffer.alloc(size), 0, size, 0);
    await bitmap.close();
    const second = await start();
    await second.attach({ owner: "a", locations, tocDigest: bigLayer.layer.tocDigest });
    await until("both chunks are local", () => (second.coverage("a")?.localBytes ?? 0) >= 2 * 16_384);
    expect(second.statistics().fill.requests).toMatchObject({ "on-demand": 0, background: 0 });
  });

  it("follows the paths of a recorded start", async () => {
    const layer = makeLayer(manyFiles);
    const system = await start({ recordedOrder: () => ["/d9/199", "d3/70", "no/such/file"] });
    await system.attach({ owner: "a", locations: [fixture.source.add(layer.digest, layer.blob)], tocDigest: layer.layer.tocDigest });
    await until("both files are local", () => (system.coverage("a")?.localBytes ?? 0) >= 6000);
    expect(system.statistics().fill.requests["on-demand"]).toBe(0);
  });
});

describe("background", () => {
  it("idle waits until nobody has waited for bytes for a while", async () => {
    const system = await start({ background: "idle", idleMs: 300, readAheadBytes: 0 });
    const { path } = await system.attach({
      owner: "a",
      locations: [fixture.source.add(bigLayer.digest, bigLayer.blob)],
      tocDigest: bigLayer.layer.tocDigest,
    });
    await fixture.driver.read(path, "file", 0, 10);
    await until("all is local", () => system.coverage("a")?.localBytes === system.coverage("a")?.totalBytes);
    const [first, second] = asked();
    expect([first?.priority, second?.priority]).toEqual([100, 0]);
  });

  it("full fills the last attached layer first", async () => {
    const layers = [1, 2, 3].map((seed) => makeLayer([{ path: "file", content: randomBytes(seed, 300_000) }]));
    const system = await start({ background: "full", maxBackgroundRequests: 1, backgroundRequestBytes: 20_000 });
    let release: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    fixture.source.fault = (request) => (request.priority === 0 ? gate : undefined);
    for (const [at, { layer, blob, digest }] of layers.entries()) {
      await system.attach({ owner: String(at), locations: [fixture.source.add(digest, blob)], tocDigest: layer.tocDigest });
    }
    await until("the first one has begun", () => fixture.source.requests.some((request) => request.priority === 0));
    fixture.source.fault = undefined;
    release();
    await until("all is local", () => [0, 1, 2].every((at) => system.coverage(String(at))?.localBytes === 300_000));
    const order = fixture.source.requests
      .filter((request) => request.priority === 0)
      .map((request) => layers.findIndex((one) => one.digest === request.digest));
    // The one that had begun, then the last, then the others.
    expect([...new Set(order.slice(1))]).toEqual([2, 1, 0]);
  });
});

describe("reads", () => {
  it("of many small chunks in a row need few requests", async () => {
    const system = await start();
    const { path } = await system.attach({
      owner: "a",
      locations: [fixture.source.add(bigLayer.digest, bigLayer.blob)],
      tocDigest: bigLayer.layer.tocDigest,
    });
    for (let at = 0; at < big.length; at += 131_072)
      expect(await fixture.driver.read(path, "file", at, 131_072)).toEqual(big.subarray(at, at + 131_072));
    expect(asked().length).toBeLessThan(15);
    expect(system.statistics().fill.overfetchedBytes).toBe(0);
  });

  it("at random places take one request each and no more than they touch", async () => {
    const system = await start();
    const { path } = await system.attach({
      owner: "a",
      locations: [fixture.source.add(bigLayer.digest, bigLayer.blob)],
      tocDigest: bigLayer.layer.tocDigest,
    });
    const touched = new Set<number>();
    let state = 7;
    for (let read = 0; read < 40; read++) {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      const block = state % Math.floor(big.length / 4096);
      touched.add(Math.floor((block * 4096) / 16_384));
      await fixture.driver.read(path, "file", block * 4096, 4096);
    }
    const wanted = [...touched].reduce(
      (sum, at) => sum + bigLayer.layer.span(bigLayer.layer.chunks[at] ?? (bigLayer.layer.chunks[0] as never)).length,
      0,
    );
    expect(asked().length).toBeLessThanOrEqual(40);
    expect(asked().reduce((sum, request) => sum + request.length, 0)).toBeLessThanOrEqual(wanted * 1.2);
  });

  it("of one range of several chunks are one request", async () => {
    const system = await start();
    const { path } = await system.attach({
      owner: "a",
      locations: [fixture.source.add(bigLayer.digest, bigLayer.blob)],
      tocDigest: bigLayer.layer.tocDigest,
    });
    await fixture.driver.read(path, "file", 1_000_000, 1_000_000);
    expect(asked()).toHaveLength(1);
  });

  it("of a tree in its order soon run ahead of the reader", async () => {
    const layer = makeLayer(manyFiles);
    const system = await start();
    const { path } = await system.attach({
      owner: "a",
      locations: [fixture.source.add(layer.digest, layer.blob)],
      tocDigest: layer.layer.tocDigest,
    });
    for (const file of manyFiles) expect(await fixture.driver.read(path, file.path)).toEqual(file.content);
    expect(asked().length).toBeLessThan(12);
  });
});

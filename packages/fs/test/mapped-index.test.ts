import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { buildLayerIndex, type LayerIndex } from "../src/index.ts";
import { mapLayerIndex, openLayerIndex } from "../src/load-layer-index.ts";
import { makeLayer } from "./memory-layer.ts";

const index = buildLayerIndex(makeLayer(Array.from({ length: 500 }, (_, i) => ({ path: `d/file-${i}`, content: `content ${i}` }))).layer);
const bytes = Buffer.from(new Uint8Array(index.buffer));
let folder: string;
let path: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "ezx-"));
  path = join(folder, "index");
  writeFileSync(path, bytes);
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

const find = (from: LayerIndex, name: string): number => from.lookup(from.lookup(0, Buffer.from("d")), Buffer.from(name));

describe("an index in a mapped file", () => {
  it("is the same as in memory, in other threads too", async () => {
    const mapped = await openLayerIndex(path);
    expect("address" in mapped.memory).toBe(true);
    expect(find(mapped, "file-77")).toBe(find(index, "file-77"));
    expect(Buffer.from(new Uint8Array(mapped.buffer)).equals(bytes)).toBe(true);
    const source = `
      const { parentPort, workerData } = require("node:worker_threads");
      import(workerData.module).then(({ LayerIndex }) => {
        const index = LayerIndex.over(workerData.memory);
        parentPort.postMessage(index.lookup(index.lookup(0, Buffer.from("d")), Buffer.from("file-77")));
      });`;
    const module = new URL("../src/layer-index.ts", import.meta.url).href;
    const workerData = { memory: mapped.memory, module };
    const worker = new Worker(source, { eval: true, workerData, execArgv: ["--conditions=@estargz/source"] });
    const found = await new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
    await worker.terminate();
    expect(found).toBe(find(index, "file-77"));
  });

  it("is refused with any damaged byte or another length", async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), async (at, bits) => {
        const damaged = Buffer.from(bytes);
        damaged[at] = (damaged[at] ?? 0) ^ bits;
        writeFileSync(path, damaged);
        await expect(openLayerIndex(path)).rejects.toThrow(/damaged/u);
      }),
      { numRuns: 50 },
    );
    for (const length of [0, 10, 300, bytes.length - 1]) {
      writeFileSync(path, bytes.subarray(0, length));
      await expect(openLayerIndex(path)).rejects.toThrow(/damaged/u);
    }
    writeFileSync(path, Buffer.concat([bytes, Buffer.alloc(1)]));
    await expect(openLayerIndex(path)).rejects.toThrow(/damaged/u);
  });

  it("goes on to be read after its pages were let go of and its file was removed", () => {
    const mapped = mapLayerIndex(path, index);
    mapped.hold();
    expect(find(mapped, "file-77")).toBe(find(index, "file-77"));
    mapped.rest();
    rmSync(path);
    expect(find(mapped, "file-78")).toBe(find(index, "file-78"));
    mapped.release();
  });

  it("has nothing in it, and ends no process, when nobody holds it any more", () => {
    const mapped = mapLayerIndex(path, index);
    mapped.hold();
    mapped.hold();
    mapped.release();
    expect(find(mapped, "file-77")).toBe(find(index, "file-77"));
    mapped.release();
    expect(find(mapped, "file-77")).toBe(-1);
    expect(mapped.size(5)).toBe(0);
    expect(mapped.chunkDigest(3)).toBeUndefined();
  });
});

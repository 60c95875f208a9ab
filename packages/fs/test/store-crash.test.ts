import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type ChunkResult, Decoder } from "../src/fill/decoder.ts";
import { blobOrder } from "../src/fill/plan-spans.ts";
import { describeTransfer, TransferWord } from "../src/fill/transfer.ts";
import { buildLayerIndex } from "../src/index.ts";
import { ChunkFiles } from "../src/store/chunk-files.ts";
import { LayerStore } from "../src/store/layer-store.ts";
import { createOpenFiles } from "../src/store/open-files.ts";
import { nodeStoreFiles, type StoreFiles } from "../src/store/store-files.ts";
import { randomBytes } from "./content.ts";
import { makeLayer } from "./memory-layer.ts";

let root: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "estargz-crash-"));
});

afterEach(async () => {
  await rm(root, { recursive: true, force: true });
});

/** Files of a process that dies at its nth write, having written `tornShare` of it. */
function dyingFiles(atWrite: number, tornShare: number): StoreFiles & { readonly writes: number; readonly dead: boolean } {
  let writes = 0;
  let dead = false;
  return {
    ...nodeStoreFiles,
    get writes() {
      return writes;
    },
    get dead() {
      return dead;
    },
    write(file, bytes, position) {
      if (dead) throw new Error("dead");
      writes++;
      if (writes === atWrite) {
        dead = true;
        nodeStoreFiles.write(file, bytes.subarray(0, Math.floor(bytes.length * tornShare)), position);
        throw new Error("dead");
      }
      nodeStoreFiles.write(file, bytes, position);
    },
  };
}

const { layer, blob } = makeLayer(
  [
    { path: "a", content: randomBytes(1, 20_000) },
    { path: "b", content: randomBytes(2, 100) },
    { path: "c", content: randomBytes(3, 9000) },
    { path: "big", content: randomBytes(4, 4 * 1024 * 1024) },
  ],
  { chunkSize: 300_000, pack: true },
);
const index = buildLayerIndex(layer);

/** Puts the whole layer into a store until the files die; gives the chunks that were reported as shown. */
function fillUntilDeath(store: LayerStore, files: StoreFiles & { readonly dead: boolean }): Set<number> {
  const shown = new Set<number>();
  const decoder = new Decoder(files, (results: readonly ChunkResult[]) => {
    for (const result of results) if (result.outcome === "stored") shown.add(result.chunk);
  });
  decoder.take({ type: "layer", init: store.init() });
  const transfer = describeTransfer({
    id: 1,
    layer: store.id,
    index,
    blobOffset: 0,
    length: index.payloadEnd,
    chunks: [...blobOrder(index).chunks],
    priority: 100,
    keep: false,
  });
  new Uint8Array(transfer.bytes).set(blob.subarray(0, index.payloadEnd));
  new Int32Array(transfer.state)[TransferWord.received] = index.payloadEnd;
  decoder.take({ type: "transfer", transfer });
  while (!files.dead && decoder.step()) decoder.flush();
  return shown;
}

function contentOf(chunk: number): Buffer {
  const { fileOffset, length, entry } = layer.chunks[chunk] ?? { fileOffset: 0, length: 0, entry: 0 };
  const { path } = layer.entries[entry] ?? { path: "" };
  const seed = { a: 1, b: 2, c: 3, big: 4 }[path] ?? 0;
  const size = layer.entries[entry]?.size ?? 0;
  return randomBytes(seed, size).subarray(fileOffset, fileOffset + length);
}

describe("a store whose process stops", () => {
  it.each([0, 0.5, 1])("at any write, %f of it done: loses nothing that was shown, shows nothing unverified", async (tornShare) => {
    let atWrite = 1;
    for (let dead = true; dead; atWrite++) {
      const directory = join(root, `${tornShare}-${atWrite}`);
      const store = await LayerStore.create(1, directory, index);
      const files = dyingFiles(atWrite, tornShare);
      const shown = fillUntilDeath(store, files);
      dead = files.dead;
      const again = await LayerStore.open(2, directory, undefined);
      if (again === undefined) throw new Error("the store cannot be opened");
      // Before it is hashed, nothing is shown.
      expect(layer.chunks.filter((chunk) => again.isLive(chunk.index))).toEqual([]);
      const chunkFiles = new ChunkFiles(again.init(), createOpenFiles(nodeStoreFiles));
      for (const { index: chunk } of layer.chunks) {
        const good = chunkFiles.check(chunk);
        expect(good || !shown.has(chunk)).toBe(true);
        expect(again.isLive(chunk)).toBe(good);
        expect(good ? Buffer.from(chunkFiles.read(chunk) ?? []).equals(contentOf(chunk)) : true).toBe(true);
      }
      chunkFiles.close();
    }
    expect(atWrite).toBeGreaterThan(layer.chunks.length * 2);
  });

  it("finds bit rot, truncation and a wrong bitmap before use", async () => {
    const directory = join(root, "rot");
    const store = await LayerStore.create(1, directory, index);
    fillUntilDeath(store, dyingFiles(Number.POSITIVE_INFINITY, 1));
    const damage = nodeStoreFiles.open(join(directory, "data"));
    nodeStoreFiles.write(damage, Uint8Array.of(0xff), 17);
    nodeStoreFiles.close(damage);
    const again = await LayerStore.open(2, directory, undefined);
    if (again === undefined) throw new Error("the store cannot be opened");
    const chunkFiles = new ChunkFiles(again.init(), createOpenFiles(nodeStoreFiles));
    const bad = layer.chunks.filter((chunk) => !chunkFiles.check(chunk.index));
    chunkFiles.close();
    expect(bad.map((chunk) => layer.entries[chunk.entry]?.path)).toEqual(["a"]);
  });

  it("trusts a clean stop only while its files are as they were left", async () => {
    const directory = join(root, "clean");
    const store = await LayerStore.create(1, directory, index);
    fillUntilDeath(store, dyingFiles(Number.POSITIVE_INFINITY, 1));
    const marks = store.marks();
    const clean = await LayerStore.open(2, directory, marks);
    expect(layer.chunks.every((chunk) => clean?.isLive(chunk.index))).toBe(true);
    const damage = nodeStoreFiles.open(join(directory, "data"));
    nodeStoreFiles.write(damage, Uint8Array.of(0xff), 17);
    nodeStoreFiles.close(damage);
    const changed = await LayerStore.open(3, directory, marks);
    expect(layer.chunks.some((chunk) => changed?.isLive(chunk.index))).toBe(false);
  });
});

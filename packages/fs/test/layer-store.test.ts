import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { buildLayerIndex } from "../src/build-layer-index.ts";
import { ChunkFiles } from "../src/store/chunk-files.ts";
import { LayerStore } from "../src/store/layer-store.ts";
import { createOpenFiles } from "../src/store/open-files.ts";
import { nodeStoreFiles } from "../src/store/store-files.ts";
import { randomBytes } from "./content.ts";
import { makeLayer } from "./memory-layer.ts";

const content = randomBytes(1, 100_000);
const index = buildLayerIndex(makeLayer([{ path: "file", content }], { chunkSize: 100_000 }).layer);
const chunk = index.firstChunk(index.lookup(0, Buffer.from("file")));

let root: string;
let directory: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "estargz-layer-store-"));
  directory = join(root, "layer");
});

afterEach(() => rm(root, { recursive: true, force: true }));

function write(store: LayerStore): void {
  const files = new ChunkFiles(store.init(), createOpenFiles(nodeStoreFiles));
  files.write(chunk, content);
  files.close();
}

describe("a layer's folder", () => {
  it("that was removed and made again is left alone by who knew the former one", async () => {
    const former = await LayerStore.create(1, directory, index);
    write(former);
    const removing = former.remove();
    const store = await LayerStore.create(2, directory, index);
    write(store);
    await removing;
    former.unshow([chunk]);
    former.free([chunk]);
    expect(await former.remove()).toBe(0);
    expect(await readdir(root)).toEqual(["layer"]);
    const again = await LayerStore.open(3, directory, store.marks());
    expect(again?.isLive(chunk)).toBe(true);
    const files = new ChunkFiles(store.init(), createOpenFiles(nodeStoreFiles));
    expect(files.read(chunk)).toEqual(new Uint8Array(content));
    files.close();
  });

  it("has the bitmap of who holds it when it is marked clean", async () => {
    const store = await LayerStore.create(1, directory, index);
    const empty = await readFile(join(directory, "bitmap"));
    write(store);
    const full = await readFile(join(directory, "bitmap"));
    await writeFile(join(directory, "bitmap"), empty);
    expect(store.writeBitmap()).toBe(true);
    expect(await readFile(join(directory, "bitmap"))).toEqual(full);
    await store.remove();
    expect(store.writeBitmap()).toBe(false);
  });
});

import { decodeFirstUse, FIRST_USE_ANNOTATION } from "@estargz/format";
import type { Descriptor } from "@estargz/interface";
import type { ImageStore } from "@estargz/registry";
import { afterEach, expect, test } from "vitest";
import { convertImage, optimizeImage } from "../src/index.ts";
import { Folders, makeLayer, newStore, OCI, pushImage, pushIndex } from "./image-factory.ts";

const folders = new Folders();
afterEach(() => folders.remove());

async function layersOf(store: ImageStore, target?: Descriptor): Promise<readonly Descriptor[]> {
  const fetched = await store.fetchManifest(target);
  if (fetched.kind !== "manifest") throw new Error("an index");
  return fetched.manifest.layers;
}

async function lazyImage(): Promise<ImageStore> {
  const [plain, lazy] = [await newStore(folders), await newStore(folders)];
  await pushImage(plain, { layers: [await makeLayer({ a: "1" }), await makeLayer({ b: "2".repeat(5000) })] });
  await convertImage(plain, lazy, { chunkSizeBytes: 1000 });
  return lazy;
}

test("an image says what a start reads; its layers stay what they are", async () => {
  const [lazy, optimized] = [await lazyImage(), await newStore(folders)];
  const before = await layersOf(lazy);
  const descriptor = await optimizeImage(lazy, optimized, { firstUse: [[], [4, 2, 3]] });
  const after = await layersOf(optimized);
  expect((await optimized.fetchManifest()).descriptor.digest).toBe(descriptor.digest);
  expect(after.map(({ digest }) => digest)).toEqual(before.map(({ digest }) => digest));
  expect(after[0]).toEqual(before[0]);
  expect(decodeFirstUse(after[1]?.annotations?.[FIRST_USE_ANNOTATION] ?? "", 100)).toEqual([2, 3, 4]);
  for (const layer of after) expect(await optimized.hasBlob(layer)).toBe(true);
  const source = await lazy.fetchManifest();
  const config = source.kind === "manifest" ? source.manifest.config.digest : undefined;
  expect(await optimized.fetchManifest()).toMatchObject({
    manifest: { config: { digest: config }, annotations: { "org.example.kept": "yes" } },
  });
});

test("a later record replaces an earlier one, in place", async () => {
  const lazy = await lazyImage();
  await optimizeImage(lazy, lazy, { firstUse: [[0], [1]] });
  await optimizeImage(lazy, lazy, { firstUse: [[], [2]] });
  const [lower, upper] = await layersOf(lazy);
  expect(lower?.annotations?.[FIRST_USE_ANNOTATION]).toBeUndefined();
  expect(decodeFirstUse(upper?.annotations?.[FIRST_USE_ANNOTATION] ?? "", 100)).toEqual([2]);
});

test("of an index one platform changes", async () => {
  const [store, optimized] = [await newStore(folders), await newStore(folders)];
  const layers = [await makeLayer({ a: "1" })];
  const amd64 = await pushImage(store, { layers, untagged: true });
  const arm64 = await pushImage(store, { layers, platform: { os: "linux", architecture: "arm64" }, untagged: true });
  await pushIndex(store, [amd64, arm64]);
  const platform = { os: "linux", architecture: "arm64" };
  const { mediaType } = await optimizeImage(store, optimized, { firstUse: [[0]], platform });
  expect(mediaType).toBe(OCI.index);
  const index = await optimized.fetchManifest();
  if (index.kind !== "index") throw new Error("no index");
  expect(index.index.manifests[0]?.digest).toBe(amd64.digest);
  expect(index.index.manifests[1]?.digest).not.toBe(arm64.digest);
  expect(index.index.manifests[1]?.platform).toEqual(platform);
  expect((await layersOf(optimized, index.index.manifests[1]))[0]?.annotations?.[FIRST_USE_ANNOTATION]).toBeDefined();
});

test("a record of another image is refused, and no tag is set", async () => {
  const [lazy, optimized] = [await lazyImage(), await newStore(folders)];
  await expect(optimizeImage(lazy, optimized, { firstUse: [[1]] })).rejects.toThrow("1 layers were recorded and the image has 2");
  await expect(optimized.fetchManifest()).rejects.toMatchObject({ code: "NOT_FOUND" });
});

import { afterEach, beforeAll, expect, test } from "vitest";
import { copyImage } from "../src/index.ts";
import { Folders, type MadeLayer, makeLayer, newStore, pushImage, pushIndex, sha256 } from "./image-factory.ts";

const folders = new Folders();
let layer: MadeLayer;

beforeAll(async () => {
  layer = await makeLayer({ a: "1", "b/c": "2" });
});
afterEach(() => folders.remove());

test("an image keeps its digest, and its bytes are counted", async () => {
  const [source, destination] = [await newStore(folders), await newStore(folders)];
  const from = await pushImage(source, { layers: [layer] });
  const sums = { total: 0, bytes: 0 };
  const copied = await copyImage(source, destination, {
    onEvent({ type, bytes }) {
      sums[type] += bytes;
    },
  });
  expect(copied.digest).toBe(from.digest);
  expect((await destination.fetchManifest()).descriptor.digest).toBe(from.digest);
  expect(sums.bytes).toBe(sums.total);
  expect(sums.total).toBeGreaterThan(layer.blob.length);
  const blob = { mediaType: "", digest: sha256(layer.blob), size: layer.blob.length };
  expect(await destination.hasBlob(blob)).toBe(true);
});

test("an index comes with all that it names, or with chosen platforms", async () => {
  const [source, whole, part] = [await newStore(folders), await newStore(folders), await newStore(folders)];
  const amd64 = await pushImage(source, { layers: [layer], untagged: true });
  const arm64 = await pushImage(source, { layers: [layer], platform: { os: "linux", architecture: "arm64" }, untagged: true });
  const index = await pushIndex(source, [amd64, arm64]);
  expect((await copyImage(source, whole)).digest).toBe(index.digest);
  expect((await whole.fetchManifest(arm64)).descriptor.digest).toBe(arm64.digest);
  await copyImage(source, part, { platforms: [{ os: "linux", architecture: "arm64" }] });
  const fetched = await part.fetchManifest();
  expect(fetched.kind === "index" && fetched.index.manifests.map(({ digest }) => digest)).toEqual([arm64.digest]);
});

test("a missing image is an error of the source", async () => {
  await expect(copyImage(await newStore(folders), await newStore(folders))).rejects.toMatchObject({ code: "NOT_FOUND" });
});

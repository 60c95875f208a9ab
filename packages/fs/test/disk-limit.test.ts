import { readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { randomBytes } from "./content.ts";
import { useFileSystem } from "./file-system-fixture.ts";
import { makeLayer } from "./memory-layer.ts";
import { until } from "./test-source.ts";

const fixture = useFileSystem();
const { start } = fixture;

/** Bytes of disk under the layers' folders. */
async function diskBytes(): Promise<number> {
  let bytes = 0;
  for (const layer of await readdir(join(fixture.root, "layers"))) {
    for (const name of await readdir(join(fixture.root, "layers", layer)).catch(() => [])) {
      const { blocks } = await stat(join(fixture.root, "layers", layer, name)).catch(() => ({ blocks: 0 }));
      bytes += blocks * 512;
    }
  }
  return bytes;
}

const layers = Array.from({ length: 4 }, (_, number) =>
  makeLayer(
    [
      { path: "file", content: randomBytes(number, 1_000_000) },
      { path: "big", content: randomBytes(number + 10, 5_000_000) },
    ],
    { chunkSize: 100_000 },
  ),
);
const SIZE = 6_000_000;

describe("a limit of bytes", () => {
  it("removes what nobody holds first, the least recently used before others", async () => {
    const system = await start({ maxBytes: 2.5 * SIZE });
    for (const [number, { digest, blob, layer }] of layers.entries()) {
      const { path } = await system.attach({ owner: "a", locations: [fixture.source.add(digest, blob)], tocDigest: layer.tocDigest });
      expect(await fixture.driver.read(path, "file")).toEqual(randomBytes(number, 1_000_000));
      expect(await fixture.driver.read(path, "big")).toEqual(randomBytes(number + 10, 5_000_000));
      await system.detach("a");
    }
    await until("the disk is under the limit", async () => (await diskBytes()) <= 2.5 * SIZE);
    const kept = await readdir(join(fixture.root, "layers"));
    expect(kept.some((name) => name.startsWith(layers[3]?.digest.slice(7) ?? "?"))).toBe(true);
    expect(kept.some((name) => name.startsWith(layers[0]?.digest.slice(7) ?? "?"))).toBe(false);
  });

  it("gives up data of held layers under it, and no reader notices", async () => {
    const system = await start({ maxBytes: 1.4 * SIZE });
    const paths: string[] = [];
    for (const { digest, blob, layer } of layers) {
      const { path } = await system.attach({ owner: digest, locations: [fixture.source.add(digest, blob)], tocDigest: layer.tocDigest });
      paths.push(path);
    }
    for (let round = 0; round < 3; round++) {
      for (const [number, path] of paths.entries()) {
        for (let at = 0; at < 5_000_000; at += 400_000) {
          expect(await fixture.driver.read(path, "big", at, 400_000)).toEqual(
            randomBytes(number + 10, 5_000_000).subarray(at, at + 400_000),
          );
        }
        expect(system.statistics().localBytes).toBeLessThanOrEqual(1.4 * SIZE);
        expect(await diskBytes()).toBeLessThanOrEqual(1.4 * SIZE + 300_000);
      }
    }
  });

  it("too small for anything still serves every read", async () => {
    const system = await start({ maxBytes: 1 });
    const [{ digest, blob, layer }] = layers as [(typeof layers)[0]];
    const { path } = await system.attach({ owner: "a", locations: [fixture.source.add(digest, blob)], tocDigest: layer.tocDigest });
    expect(await fixture.driver.read(path, "big")).toEqual(randomBytes(10, 5_000_000));
    expect(system.coverage("a")?.localBytes).toBe(0);
  });
});

describe("a folder that disappears", () => {
  it("while layers are attached: reads go on from the source", async () => {
    const system = await start();
    const [{ digest, blob, layer }] = layers as [(typeof layers)[0]];
    const { path } = await system.attach({ owner: "a", locations: [fixture.source.add(digest, blob)], tocDigest: layer.tocDigest });
    expect(await fixture.driver.read(path, "big", 0, 1_000_000)).toEqual(randomBytes(10, 5_000_000).subarray(0, 1_000_000));
    await rm(join(fixture.root, "layers"), { recursive: true });
    expect(await fixture.driver.read(path, "big")).toEqual(randomBytes(10, 5_000_000));
    expect(await fixture.driver.read(path, "file")).toEqual(randomBytes(0, 1_000_000));
    expect(await fixture.driver.read(path, "big")).toEqual(randomBytes(10, 5_000_000));
  });
});

describe("chunks of equal content", () => {
  it("in another layer are copied, not fetched", async () => {
    const shared = randomBytes(77, 2_000_000);
    const one = makeLayer(
      [
        { path: "x", content: shared },
        { path: "only-one", content: "1" },
      ],
      { chunkSize: 100_000 },
    );
    const two = makeLayer(
      [
        { path: "only-two", content: "22" },
        { path: "y", content: shared },
      ],
      { chunkSize: 100_000 },
    );
    const system = await start();
    const first = await system.attach({
      owner: "a",
      locations: [fixture.source.add(one.digest, one.blob)],
      tocDigest: one.layer.tocDigest,
    });
    expect(await fixture.driver.read(first.path, "x")).toEqual(shared);
    const second = await system.attach({
      owner: "b",
      locations: [fixture.source.add(two.digest, two.blob)],
      tocDigest: two.layer.tocDigest,
    });
    const { length } = fixture.source.requests;
    expect(await fixture.driver.read(second.path, "y")).toEqual(shared);
    expect(fixture.source.requests).toHaveLength(length);
    expect(system.statistics().fill.copiedChunks).toBe(20);
  });

  it("in a layer that nobody holds any more still serve, also after a restart", async () => {
    const shared = randomBytes(78, 1_000_000);
    const one = makeLayer([{ path: "x", content: shared }], { chunkSize: 100_000 });
    const two = makeLayer(
      [
        { path: "y", content: shared },
        { path: "z", content: "z" },
      ],
      { chunkSize: 100_000 },
    );
    const before = await start();
    const first = await before.attach({
      owner: "a",
      locations: [fixture.source.add(one.digest, one.blob)],
      tocDigest: one.layer.tocDigest,
    });
    await fixture.driver.read(first.path, "x");
    await before.detach("a");
    await before.close();
    const system = await start();
    const second = await system.attach({
      owner: "b",
      locations: [fixture.source.add(two.digest, two.blob)],
      tocDigest: two.layer.tocDigest,
    });
    const { length } = fixture.source.requests;
    expect(await fixture.driver.read(second.path, "y")).toEqual(shared);
    expect(fixture.source.requests).toHaveLength(length);
  });
});

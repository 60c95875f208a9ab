import { describe, expect, it } from "vitest";
import { randomBytes } from "./content.ts";
import { useFileSystem } from "./file-system-fixture.ts";
import { makeLayer, type TestEntry } from "./memory-layer.ts";
import { until } from "./test-source.ts";

const fixture = useFileSystem();
const { start } = fixture;

const files: TestEntry[] = [
  { path: "bin/big", content: randomBytes(1, 5 * 1024 * 1024) },
  { path: "etc/small", content: randomBytes(2, 1000) },
  { path: "etc/middle", content: randomBytes(3, 300_000) },
  { path: "etc/empty", content: "" },
];

describe("createLayerFileSystem", () => {
  it("shows a layer and fetches what is read, once", async () => {
    const { layer, blob, digest } = makeLayer(files, { chunkSize: 65_536 });
    const location = fixture.source.add(digest, blob);
    const system = await start();
    const attached = await system.attach({ owner: "a", locations: [location], tocDigest: layer.tocDigest });
    expect(attached).toMatchObject({ layerDigest: digest, tocDigest: layer.tocDigest, path: "/fake/1" });
    expect(fixture.source.requests).toHaveLength(1);
    for (const file of files) expect(await fixture.driver.read(attached.path, file.path)).toEqual(Buffer.from(file.content ?? ""));
    const { length } = fixture.source.requests;
    for (const file of files) expect(await fixture.driver.read(attached.path, file.path)).toEqual(Buffer.from(file.content ?? ""));
    expect(fixture.source.requests).toHaveLength(length);
    await until("the last chunk is counted", () => system.coverage("a")?.localBytes === system.coverage("a")?.totalBytes);
  });

  it("fills everything in the background", async () => {
    const { layer, blob, digest } = makeLayer(files, { chunkSize: 4096, pack: true });
    const system = await start({ background: "full" });
    await system.attach({ owner: "a", locations: [fixture.source.add(digest, blob)], tocDigest: layer.tocDigest });
    await until("all is local", () => system.coverage("a")?.localBytes === system.coverage("a")?.totalBytes);
    expect(fixture.driver.misses).toBe(0);
  });

  it("goes on after a restart without the source", async () => {
    const { layer, blob, digest } = makeLayer(files, { chunkSize: 65_536 });
    const first = await start();
    const { path } = await first.attach({ owner: "a", locations: [fixture.source.add(digest, blob)], tocDigest: layer.tocDigest });
    await fixture.driver.read(path, "etc/middle");
    await first.close();
    fixture.source.blobs.clear();
    const { length } = fixture.source.requests;
    const second = await start();
    expect(second.get("a")?.path).toBe(path);
    expect(fixture.driver.isReady).toBe(true);
    expect(await fixture.driver.read(path, "etc/middle")).toEqual(files[2]?.content);
    expect(fixture.source.requests).toHaveLength(length);
    await expect(fixture.driver.read(path, "etc/small")).rejects.toMatchObject({ code: "NOT_FOUND" });
    fixture.source.add(digest, blob);
    expect(await fixture.driver.read(path, "etc/small")).toEqual(files[1]?.content);
  });
});

import { open, readdir } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { randomBytes } from "./content.ts";
import { useFileSystem } from "./file-system-fixture.ts";
import { makeLayer, type TestEntry } from "./memory-layer.ts";
import { until } from "./test-source.ts";

const fixture = useFileSystem();
const { start } = fixture;

const honestContent = randomBytes(1, 150_000);
const hostileContent = randomBytes(9, 150_000);
const honest: TestEntry[] = [{ path: "bin/sh", content: honestContent }];
const hostile: TestEntry[] = [{ path: "bin/sh", content: hostileContent }];

describe("a poisoned layer", () => {
  it("that names another image's layer digest with a TOC of its own does not reach that image", async () => {
    const good = makeLayer(honest, { chunkSize: 40_000 });
    const evil = makeLayer(hostile, { chunkSize: 40_000 });
    fixture.source.blobs.set(good.digest, evil.blob);
    const system = await start();
    const location = { ...fixture.source.location(good.digest, "evil.example/image"), reference: "evil.example/image" };
    const poisoned = await system.attach({ owner: "evil", locations: [location], tocDigest: evil.layer.tocDigest });
    expect(await fixture.driver.read(poisoned.path, "bin/sh")).toEqual(hostileContent);
    fixture.source.blobs.set(good.digest, good.blob);
    const clean = await system.attach({
      owner: "good",
      locations: [fixture.source.location(good.digest)],
      tocDigest: good.layer.tocDigest,
    });
    expect(clean.path).not.toBe(poisoned.path);
    expect(await fixture.driver.read(clean.path, "bin/sh")).toEqual(honestContent);
  });

  it("opened without verification is shared with nobody, and not kept", async () => {
    const good = makeLayer(honest, { chunkSize: 40_000 });
    const evil = makeLayer(hostile, { chunkSize: 40_000 });
    fixture.source.blobs.set(good.digest, evil.blob);
    const system = await start();
    const request = { locations: [fixture.source.location(good.digest)], tocDigest: undefined, allowUnverified: true };
    const first = await system.attach({ owner: "a", ...request });
    const second = await system.attach({ owner: "b", ...request });
    expect(second.path).not.toBe(first.path);
    expect(await fixture.driver.read(first.path, "bin/sh")).toEqual(hostileContent);
    fixture.source.blobs.set(good.digest, good.blob);
    const clean = await system.attach({
      owner: "good",
      locations: [fixture.source.location(good.digest)],
      tocDigest: good.layer.tocDigest,
    });
    expect(await fixture.driver.read(clean.path, "bin/sh")).toEqual(honestContent);
    await system.detach("a");
    await system.detach("b");
    expect((await readdir(join(fixture.root, "layers"))).filter((name) => name.startsWith("unverified"))).toEqual([]);
    await expect(system.attach({ owner: "c", ...request, allowUnverified: false })).rejects.toMatchObject({ code: "UNVERIFIED" });
  });

  it("opened without verification is shown again after a restart, with nothing of it trusted", async () => {
    const evil = makeLayer(hostile, { chunkSize: 40_000 });
    const system = await start();
    const request = { locations: [fixture.source.add(evil.digest, evil.blob)], tocDigest: undefined, allowUnverified: true };
    const { path } = await system.attach({ owner: "a", ...request });
    await fixture.driver.read(path, "bin/sh");
    await system.close();
    const again = await start();
    expect(again.get("a")?.path).toBe(path);
    expect(again.coverage("a")?.localBytes).toBe(0);
    expect(await fixture.driver.read(path, "bin/sh")).toEqual(hostileContent);
  });

  it("with other bytes than its TOC names gives an error, never the bytes", async () => {
    const good = makeLayer(honest, { chunkSize: 40_000 });
    const evil = makeLayer(hostile, { chunkSize: 40_000 });
    const location = fixture.source.add(good.digest, good.blob);
    const system = await start();
    const { path } = await system.attach({ owner: "a", locations: [location], tocDigest: good.layer.tocDigest });
    fixture.source.blobs.set(good.digest, Buffer.concat([evil.blob, Buffer.alloc(100_000)]));
    await expect(fixture.driver.read(path, "bin/sh")).rejects.toMatchObject({
      code: expect.stringMatching(/DIGEST_MISMATCH|INVALID_COMPRESSION/u) as string,
    });
    fixture.source.blobs.set(good.digest, good.blob);
    // Until the last bad bytes have come in, a read may still join them.
    await until("the good bytes are shown", () =>
      fixture.driver.read(path, "bin/sh").then(
        (bytes) => bytes.equals(honestContent),
        () => false,
      ),
    );
  });

  it("is fetched from a further place when the first one lies", async () => {
    const good = makeLayer(honest, { chunkSize: 40_000 });
    fixture.source.add(good.digest, good.blob);
    fixture.source.corrupt = (request, bytes) => {
      if (request.reference === "bad.example/image" && request.offset < good.layer.payloadEnd) bytes.fill(7);
    };
    const locations = [
      fixture.source.location(good.digest, "bad.example/image"),
      fixture.source.location(good.digest, "good.example/image"),
    ];
    const system = await start();
    const { path } = await system.attach({ owner: "a", locations: [...locations].reverse(), tocDigest: good.layer.tocDigest });
    expect(await fixture.driver.read(path, "bin/sh")).toEqual(honestContent);
    await system.detach("a");
    await system.collect();
    const again = await system.attach({
      owner: "a",
      locations: [locations[1] ?? fixture.source.location(good.digest), ...locations],
      tocDigest: good.layer.tocDigest,
    });
    expect(await fixture.driver.read(again.path, "bin/sh")).toEqual(honestContent);
  });

  it("changed on disk between two runs is found before its first use", async () => {
    const good = makeLayer(honest, { chunkSize: 40_000 });
    const location = fixture.source.add(good.digest, good.blob);
    const first = await start();
    const { path } = await first.attach({ owner: "a", locations: [location], tocDigest: good.layer.tocDigest });
    await fixture.driver.read(path, "bin/sh");
    await first.close();
    const [key] = await readdir(join(fixture.root, "layers"));
    const file = await open(join(fixture.root, "layers", key ?? "", "data"), "r+");
    await file.write(Buffer.alloc(10, 0xee), 0, 10, 50_000);
    await file.close();
    const { length } = fixture.source.requests;
    await start();
    expect(await fixture.driver.read(path, "bin/sh")).toEqual(honestContent);
    expect(fixture.source.requests.length).toBe(length + 1);
  });

  it("whose index was changed on disk is opened again from its source", async () => {
    const good = makeLayer(honest, { chunkSize: 40_000 });
    const location = fixture.source.add(good.digest, good.blob);
    const first = await start();
    const { path } = await first.attach({ owner: "a", locations: [location], tocDigest: good.layer.tocDigest });
    await fixture.driver.read(path, "bin/sh");
    await first.close();
    const [key] = await readdir(join(fixture.root, "layers"));
    const file = await open(join(fixture.root, "layers", key ?? "", "index"), "r+");
    await file.write(Buffer.alloc(4, 0xee), 0, 4, 300);
    await file.close();
    const second = await start();
    const again = await second.attach({ owner: "a", locations: [location], tocDigest: good.layer.tocDigest });
    expect(await fixture.driver.read(again.path, "bin/sh")).toEqual(honestContent);
  });
});

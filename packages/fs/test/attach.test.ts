import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { EstargzError, type Metrics } from "@estargz/interface";
import { describe, expect, it } from "vitest";
import { randomBytes } from "./content.ts";
import { useFileSystem } from "./file-system-fixture.ts";
import { makeLayer } from "./memory-layer.ts";
import { NO_DIGEST, until } from "./test-source.ts";

const fixture = useFileSystem();
const { start } = fixture;

const { layer, blob, digest } = makeLayer([{ path: "file", content: randomBytes(1, 100_000), uid: 5 }]);
const { tocDigest } = layer;

describe("attach", () => {
  it("opens a layer once for several owners at a time", async () => {
    const system = await start();
    const locations = [fixture.source.add(digest, blob)];
    const layers = await Promise.all(["a", "b", "c"].map((owner) => system.attach({ owner, locations, tocDigest })));
    expect(new Set(layers.map((one) => one.path)).size).toBe(1);
    expect(fixture.source.requests).toHaveLength(1);
    expect(system.list().map((one) => one.owner)).toEqual(["a", "b", "c"]);
    expect(fixture.driver.layers.size).toBe(1);
    for (const owner of ["a", "b", "c"]) await system.detach(owner);
    expect(fixture.driver.layers.size).toBe(0);
  });

  it("shows a layer while somebody holds it, however attaching and detaching cross", async () => {
    const system = await start();
    const locations = [fixture.source.add(digest, blob)];
    fixture.driver.turnMs = 1;
    for (let round = 0; round < 20; round++) {
      const attached = system.attach({ owner: "a", locations, tocDigest }).catch(() => undefined);
      if (round % 3 !== 0) await new Promise((resolve) => setTimeout(resolve, round % 5));
      await Promise.all([attached, system.attach({ owner: "b", locations, tocDigest }), system.detach("a")]);
      await Promise.all([system.detach("b"), system.attach({ owner: "c", locations, tocDigest })]);
      const { path } = system.get("c") ?? { path: "" };
      expect(await fixture.driver.read(path, "file")).toEqual(randomBytes(1, 100_000));
      await Promise.all([system.detach("a"), system.detach("c")]);
      expect(fixture.driver.layers.size).toBe(0);
    }
  });

  it("is idempotent for an owner and a layer, and refuses a second layer", async () => {
    const system = await start();
    const locations = [fixture.source.add(digest, blob)];
    const first = await system.attach({ owner: "a", locations, tocDigest });
    expect(await system.attach({ owner: "a", locations, tocDigest })).toEqual(first);
    const other = makeLayer([{ path: "x", content: "x" }]);
    const request = { owner: "a", locations: [fixture.source.add(other.digest, other.blob)], tocDigest: other.layer.tocDigest };
    await expect(system.attach(request)).rejects.toMatchObject({ code: "ALREADY_EXISTS" });
  });

  it("uses what was opened ahead, also when its TOC digest was not known then", async () => {
    const system = await start();
    const locations = [fixture.source.add(digest, blob)];
    system.expect([{ locations, tocDigest: undefined }]);
    await until("it is being opened", () => fixture.source.requests.length === 1);
    await system.attach({ owner: "a", locations, tocDigest });
    expect(fixture.source.requests).toHaveLength(1);
    await system.detach("a");
    await system.collect();
    system.expect([{ locations, tocDigest }]);
    await system.attach({ owner: "a", locations, tocDigest });
    expect(fixture.source.requests).toHaveLength(2);
  });

  it("never takes what was opened ahead for another TOC digest", async () => {
    const system = await start();
    const locations = [fixture.source.add(digest, blob)];
    system.expect([{ locations, tocDigest: undefined }]);
    await expect(system.attach({ owner: "a", locations, tocDigest: NO_DIGEST })).rejects.toMatchObject({ code: "DIGEST_MISMATCH" });
    expect(system.get("a")).toBeUndefined();
  });

  it("tells why a layer cannot be opened, and forgets the failure", async () => {
    const system = await start();
    const locations = [fixture.source.add(digest, Buffer.alloc(1000))];
    await expect(system.attach({ owner: "a", locations, tocDigest })).rejects.toMatchObject({ code: "NOT_ESTARGZ" });
    fixture.source.fault = () => {
      throw new EstargzError("UNAUTHORIZED", "no credentials");
    };
    await expect(system.attach({ owner: "a", locations, tocDigest })).rejects.toMatchObject({ code: "UNAUTHORIZED" });
    fixture.source.fault = undefined;
    fixture.source.add(digest, blob);
    expect(await system.attach({ owner: "a", locations, tocDigest })).toMatchObject({ rootOwner: { uid: 0, gid: 0 } });
    await expect(system.attach({ owner: "b", locations: [], tocDigest })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });

  it("keeps to the limits of a TOC and of files that it is given", async () => {
    const content = randomBytes(2, 4 * 1024 * 1024);
    const large = makeLayer([{ path: "file", content }], { chunkSize: 1024 * 1024 });
    const request = { locations: [fixture.source.add(large.digest, large.blob)], tocDigest: large.layer.tocDigest };
    const strict = await start({ layerLimits: { maxEntries: 2 } });
    await expect(strict.attach({ owner: "a", ...request })).rejects.toMatchObject({ code: "LIMIT_EXCEEDED" });
    await strict.close();
    const system = await start({ maxBackingFiles: 0 });
    const { path } = await system.attach({ owner: "a", ...request });
    expect(await fixture.driver.read(path, "file", 100, 1000)).toEqual(content.subarray(100, 1100));
    expect(await readdir(join(fixture.root, "layers"))).toEqual([]);
  });

  it("lets its caller go when it aborts; the opening goes on", async () => {
    const system = await start();
    let answer: () => void = () => undefined;
    fixture.source.fault = () =>
      new Promise((resolve) => {
        answer = resolve;
      });
    const locations = [fixture.source.add(digest, blob)];
    const abort = new AbortController();
    const first = system.attach({ owner: "a", locations, tocDigest }, { signal: abort.signal });
    const second = system.attach({ owner: "b", locations, tocDigest });
    await until("it is asked", () => fixture.source.requests.length === 1);
    abort.abort(new Error("enough"));
    await expect(first).rejects.toThrow("enough");
    answer();
    expect(await second).toMatchObject({ owner: "b" });
    expect(system.get("a")).toBeUndefined();
  });
});

describe("detach and collect", () => {
  it("take the directory away with its last owner, and the data when asked", async () => {
    const system = await start();
    const locations = [fixture.source.add(digest, blob)];
    const { path } = await system.attach({ owner: "a", locations, tocDigest });
    await system.attach({ owner: "b", locations, tocDigest });
    await fixture.driver.read(path, "file");
    await system.detach("a");
    await system.detach("a");
    expect(fixture.driver.layers.size).toBe(1);
    expect(await system.collect()).toBe(0);
    await system.detach("b");
    expect(fixture.driver.layers.size).toBe(0);
    const again = await system.attach({ owner: "c", locations, tocDigest });
    expect(again.path).not.toBe(path);
    const { length } = fixture.source.requests;
    await fixture.driver.read(again.path, "file");
    expect(fixture.source.requests).toHaveLength(length);
    await system.detach("c");
    expect(await system.collect()).toBeGreaterThan(100_000);
    expect(await readdir(join(fixture.root, "layers"))).toEqual([]);
  });

  it("never use a directory's number twice, also after a restart", async () => {
    const locations = [fixture.source.add(digest, blob)];
    const paths = new Set<string>();
    for (let round = 0; round < 3; round++) {
      const system = await start();
      for (let at = 0; at < 3; at++) {
        paths.add((await system.attach({ owner: "a", locations, tocDigest })).path);
        await system.detach("a");
      }
      await system.close();
    }
    expect(paths.size).toBe(9);
  });
});

describe("createLayerFileSystem", () => {
  it("lets one process at a time use a folder", async () => {
    const first = await start();
    await expect(start()).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
    await first.close();
    await start();
  });

  it("checks its options", async () => {
    await expect(start({ idleMs: -1 })).rejects.toThrow(/idleMs is -1; it has to be between 0 and/u);
    await expect(start({ background: "always" as never })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });

  it("fails what waits when it closes", async () => {
    const system = await start();
    const { path } = await system.attach({ owner: "a", locations: [fixture.source.add(digest, blob)], tocDigest });
    fixture.source.fault = () => new Promise(() => undefined);
    const failure = fixture.driver.read(path, "file").then(
      () => undefined,
      (error: unknown) => error,
    );
    await until("it is asked", () => fixture.source.requests.length === 2);
    await system.close();
    expect(await failure).toMatchObject({ code: "CLOSED" });
    await expect(system.attach({ owner: "b", locations: [fixture.source.location(digest)], tocDigest })).rejects.toMatchObject({
      code: "CLOSED",
    });
  });

  it("counts", async () => {
    const counts = new Map<string, number>();
    const metrics: Metrics = {
      counter: ({ name }) => ({
        add: (value, labels) =>
          counts.set(
            `${name} ${Object.values(labels ?? {}).join()}`.trim(),
            (counts.get(`${name} ${Object.values(labels ?? {}).join()}`.trim()) ?? 0) + value,
          ),
      }),
      gauge: () => ({ set: () => undefined }),
      histogram: () => ({ observe: () => undefined }),
    };
    const system = await start({ metrics });
    const { path } = await system.attach({ owner: "a", locations: [fixture.source.add(digest, blob)], tocDigest });
    await fixture.driver.read(path, "file");
    expect(counts.get("estargz_fs_misses_total")).toBe(1);
    expect(counts.get("estargz_fs_requests_total on-demand")).toBe(1);
    expect(counts.get("estargz_fs_fetched_bytes_total on-demand")).toBe(layer.payloadEnd);
    expect(counts.get("estargz_fs_chunks_total stored")).toBe(layer.chunks.length);
    expect(system.statistics().fill).toMatchObject({ misses: 1, overfetchedBytes: 0 });
  });
});

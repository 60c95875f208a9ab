import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { LayerLocation, LayerSource, LogFields } from "@estargz/interface";
import { EstargzError } from "@estargz/interface";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  connectSnapshotter,
  createOverlaySnapshotter,
  type GrpcServer,
  type OverlaySnapshotter,
  type OverlaySnapshotterOptions,
  recordAccess,
  type Snapshotter,
  serveGrpc,
  snapshotsRoutes,
} from "../src/index.ts";
import { digestOf, FakeLayers } from "./fake-layers.ts";

const FALLBACK = "containerd.io/snapshot/remote/estargz.fallback";

/** What a registry would give: which repositories have which blobs. */
class FakeSource implements LayerSource {
  readonly reads: string[] = [];
  readonly allowed = new Set<string>();

  open(location: LayerLocation): ReturnType<LayerSource["open"]> {
    const key = `${location.reference} ${location.descriptor.digest}`;
    const read = async (): Promise<Uint8Array> => {
      this.reads.push(key);
      if (!this.allowed.has(key)) throw new EstargzError("UNAUTHORIZED", `${location.reference} needs credentials`);
      return new Uint8Array(1);
    };
    return {
      size: 1,
      readAt: read,
      readTail: async () => ({ bytes: await read(), size: 1 }),
      readRanges: async () => [await read()],
    };
  }
}

let folder: string;
let layers: FakeLayers;
let source: FakeSource;
let inner: OverlaySnapshotter;
let server: GrpcServer;
let snapshotter: Snapshotter;
let logged: { fields: LogFields; message: string }[];

async function start(options: Partial<OverlaySnapshotterOptions> = {}): Promise<void> {
  const access = recordAccess(source, { verify: (blob) => blob.readAt(0, 1) });
  layers.failure = async (request) => {
    const [location] = request.locations;
    // The real file system reads the blob's end when the layer isn't local yet.
    const known = layers.list().some((layer) => layer.layerDigest === location?.descriptor.digest && layer.tocDigest === request.tocDigest);
    if (location !== undefined && !known) await access.source.open(location).readTail(1);
  };
  const warn = (fields: LogFields, message: string): void => {
    logged.push({ fields, message });
  };
  const logger = { debug: () => {}, info: () => {}, warn, error: warn };
  inner = createOverlaySnapshotter({ root: join(folder, "root"), layers, access, logger, ...options });
  server = await serveGrpc(join(folder, "grpc.sock"), snapshotsRoutes(inner));
  snapshotter = connectSnapshotter({ address: server.address });
}

async function stop(): Promise<void> {
  await snapshotter.close();
  await server.close();
  await inner.close();
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "estargz-remote-"));
  layers = new FakeLayers(join(folder, "layers"));
  source = new FakeSource();
  logged = [];
  await start();
});
afterEach(async () => {
  await stop();
  await rm(folder, { recursive: true, force: true });
});

interface Ask {
  readonly reference?: string;
  readonly layer?: string;
  readonly toc?: string | undefined;
  readonly ref?: string;
  readonly parent?: string;
  readonly key?: string;
  readonly family?: "cri" | "stargz";
  readonly neighbours?: readonly string[];
  readonly more?: Readonly<Record<string, string>>;
}

let keys = 0;
function request(ask: Ask): { key: string; parent: string; labels: Record<string, string> } {
  keys += 1;
  const { reference = "registry.example/a:1", layer = "1", toc = "2", ref = "chain-1", parent = "", key = `key-${keys}` } = ask;
  const cri = ask.family !== "stargz";
  const digests = [layer, ...(ask.neighbours ?? [])].map(digestOf).join(",");
  const prefix = cri ? "containerd.io/snapshot/cri." : "containerd.io/snapshot/remote/stargz.";
  const labels: Record<string, string> = {
    "containerd.io/snapshot.ref": ref,
    [`${prefix}${cri ? "image-ref" : "reference"}`]: reference,
    [`${prefix}${cri ? "layer-digest" : "digest"}`]: digestOf(layer),
    [`${prefix}${cri ? "image-layers" : "layers"}`]: digests,
    ...(toc === "" ? {} : { "containerd.io/snapshot/stargz/toc.digest": digestOf(toc) }),
    ...ask.more,
  };
  return { key, parent, labels };
}

function allow(reference: string, ...layerNames: readonly string[]): void {
  for (const layer of layerNames) source.allowed.add(`${reference} ${digestOf(layer)}`);
}

/** Prepares as containerd does and gives the committed snapshot's name, or `undefined` when it has to unpack. */
async function prepare(ask: Ask): Promise<string | undefined> {
  const wanted = request(ask);
  try {
    await snapshotter.prepare(wanted);
    return undefined;
  } catch (error) {
    expect(error).toMatchObject({ code: "ALREADY_EXISTS" });
    const ref = wanted.labels["containerd.io/snapshot.ref"] ?? "";
    const found = await snapshotter.walk([`labels."containerd.io/snapshot.ref"==${ref},parent=="${wanted.parent}"`]);
    return found.find((info) => info.kind === "committed")?.name;
  }
}

async function fallbackOf(key: string): Promise<string | undefined> {
  return (await snapshotter.stat(key)).labels[FALLBACK];
}

describe("remote snapshots over gRPC", () => {
  it.each(["cri", "stargz"] as const)("understands the labels of the %s family", async (family) => {
    allow("registry.example/a:1", "1");
    expect(await prepare({ family, more: { "containerd.io/snapshot/remote/stargz.prefetch": "4096" } })).toBe("chain-1");
    expect(layers.attaches[0]).toMatchObject({ tocDigest: digestOf("2"), prefetchBytes: 4096 });
    const mounts = await snapshotter.prepare({ key: "container", parent: "chain-1", labels: {} });
    expect(mounts).toMatchObject([{ type: "overlay" }]);
    const lower = mounts[0]?.options.find((option) => option.startsWith("lowerdir="));
    expect(lower).toBe(`lowerdir=${layers.list()[0]?.path}`);
    expect(await snapshotter.usage("chain-1")).toEqual({ bytes: 40, inodes: 2 });
  });

  it("expects all layers of an image at its first mention, and each once", async () => {
    allow("registry.example/a:1", "1", "3", "4");
    await prepare({ neighbours: ["3", "4"] });
    await prepare({ layer: "3", toc: "5", ref: "chain-2", parent: "chain-1", neighbours: ["4"] });
    await prepare({ layer: "4", toc: "6", ref: "chain-3", parent: "chain-2" });
    expect(layers.expected).toEqual([digestOf("3"), digestOf("4")]);
  });

  it("asks for nothing when an image is no eStargz, and says so once", async () => {
    for (const key of ["first", "second"]) expect(await prepare({ key, toc: "", neighbours: ["3"] })).toBeUndefined();
    expect(await fallbackOf("first")).toMatch(/^NO_TOC_DIGEST: .*estargz convert/);
    expect(layers.expected).toEqual([]);
    expect(layers.attaches).toEqual([]);
    expect(logged.map(({ fields }) => fields["code"])).toEqual(["NO_TOC_DIGEST"]);
    expect(inner.counts().fallback).toBe(2);
  });

  it("keeps the reason through commit", async () => {
    await prepare({ key: "first", toc: "" });
    await snapshotter.commit({ name: "unpacked", key: "first", labels: { a: "b" } });
    const { labels } = await snapshotter.stat("unpacked");
    expect(labels["a"]).toBe("b");
    expect(labels[FALLBACK]).toMatch(/^NO_TOC_DIGEST/);
  });

  it("falls back for labels that name no image, and for malformed ones", async () => {
    await snapshotter.prepare({ key: "none", parent: "", labels: { "containerd.io/snapshot.ref": "chain" } });
    expect(await fallbackOf("none")).toMatch(/^NO_IMAGE_LABELS/);
    await prepare({ key: "bad", more: { "containerd.io/snapshot/cri.layer-digest": "sha256:xyz" } });
    expect(await fallbackOf("bad")).toMatch(/^INVALID_ARGUMENT/);
  });

  it("falls back when a layer can't be opened, with the code of what went wrong", async () => {
    await prepare({ key: "denied" });
    expect(await fallbackOf("denied")).toMatch(/^UNAUTHORIZED: .*credentials/);
    layers.failure = () => {
      throw new EstargzError("DIGEST_MISMATCH", "the TOC is another one");
    };
    await prepare({ key: "mismatch", ref: "chain-9" });
    expect(await fallbackOf("mismatch")).toMatch(/^DIGEST_MISMATCH/);
    expect(layers.list()).toEqual([]);
  });

  it("falls back when a layer takes too long, and keeps nothing of it", async () => {
    await stop();
    await start({ policy: { attachTimeoutMs: 20 } });
    layers.failure = () => new Promise((_resolve, reject) => setTimeout(() => reject(new DOMException("late", "TimeoutError")), 60));
    await prepare({ key: "late" });
    expect(await fallbackOf("late")).toMatch(/^TIMEOUT/);
    expect(layers.list()).toEqual([]);
  });

  it("shows layers without a TOC digest only when that is allowed", async () => {
    allow("registry.example/a:1", "1");
    const skip = { "containerd.io/snapshot/remote/stargz.skipverify": "true" };
    expect(await prepare({ toc: "", more: skip })).toBeUndefined();
    await stop();
    await start({ policy: { allowNoVerification: true } });
    expect(await prepare({ toc: "", ref: "other" })).toBeUndefined();
    expect(await prepare({ toc: "", ref: "skipped", more: skip })).toBe("skipped");
    expect(layers.attaches.at(-1)).toMatchObject({ tocDigest: undefined, allowUnverified: true });
  });

  it("gives a chain ID on another parent a name of its own, where containerd finds it", async () => {
    allow("registry.example/a:1", "1");
    await snapshotter.prepare({ key: "base", parent: "", labels: {} });
    await snapshotter.commit({ name: "other-parent", key: "base" });
    expect(await prepare({})).toBe("chain-1");
    const second = await prepare({ parent: "other-parent" });
    expect(second).toMatch(/^chain-1@\d+$/);
    expect((await snapshotter.stat(second ?? "")).parent).toBe("other-parent");
  });

  it("serves prepares of one chain ID at once with one layer", async () => {
    allow("registry.example/a:1", "1");
    const names = await Promise.all(Array.from({ length: 20 }, () => prepare({})));
    expect(new Set(names)).toEqual(new Set(["chain-1"]));
    expect(layers.list().length).toBe(1);
  });
});

describe("poisoning over gRPC", () => {
  it("gives two images that claim one layer with different TOCs their own bytes", async () => {
    allow("registry.example/good:1", "1");
    allow("registry.example/evil:1", "1");
    expect(await prepare({ reference: "registry.example/evil:1", toc: "e" })).toBe("chain-1");
    // The same chain ID, another TOC: containerd pulls and verifies it by itself.
    expect(await prepare({ key: "good", reference: "registry.example/good:1", toc: "2" })).toBeUndefined();
    expect(await fallbackOf("good")).toMatch(/^TARGET_CONFLICT/);
    // Another chain ID with the same layer digest: a layer of its own.
    expect(await prepare({ reference: "registry.example/good:1", toc: "2", ref: "chain-2" })).toBe("chain-2");
    const shown = layers.list().map(({ layerDigest, tocDigest, path }) => ({ layerDigest, tocDigest, path }));
    expect(new Set(shown.map(({ tocDigest }) => tocDigest))).toEqual(new Set([digestOf("e"), digestOf("2")]));
    expect(new Set(shown.map(({ path }) => path)).size).toBe(2);
  });

  it("does not show a private image's layer to an image whose own registry does not give it", async () => {
    allow("registry.example/private:1", "1");
    expect(await prepare({ reference: "registry.example/private:1" })).toBe("chain-1");
    // Same chain ID, same layer, same TOC, but a repository that has no access.
    expect(await prepare({ key: "thief", reference: "registry.example/thief:1" })).toBeUndefined();
    expect(await fallbackOf("thief")).toMatch(/^UNAUTHORIZED/);
    // The same under another chain ID: the data is local, the answer stays no.
    expect(await prepare({ key: "thief-2", reference: "registry.example/thief:1", ref: "chain-7" })).toBeUndefined();
    expect(await fallbackOf("thief-2")).toMatch(/^UNAUTHORIZED/);
    expect(layers.list().length).toBe(1);
    // Once its registry gives the blob, it is shown.
    allow("registry.example/thief:1", "1");
    expect(await prepare({ reference: "registry.example/thief:1" })).toBe("chain-1");
  });

  it("asks a repository once, and not again for another tag or after a restart", async () => {
    allow("registry.example/a:1", "1");
    await prepare({});
    const reads = source.reads.length;
    await prepare({ reference: "registry.example/a:2" });
    await prepare({ reference: "registry.example/a:2", ref: "chain-2" });
    await stop();
    await start();
    await prepare({ reference: "registry.example/a:3" });
    expect(source.reads.length).toBe(reads);
  });

  it("does not mix verified layers with unverified ones", async () => {
    await stop();
    await start({ policy: { disableVerification: true } });
    allow("registry.example/a:1", "1");
    allow("registry.example/b:1", "1");
    expect(await prepare({ toc: "" })).toBe("chain-1");
    expect(await prepare({ key: "b", reference: "registry.example/b:1", toc: "" })).toBeUndefined();
    expect(await fallbackOf("b")).toMatch(/^TARGET_CONFLICT/);
    expect(await prepare({ key: "c", reference: "registry.example/b:1", toc: "2" })).toBeUndefined();
  });
});

describe("after a restart", () => {
  it("shows again what the file system lost, without waiting, and keeps a broken layer from stopping the others", async () => {
    allow("registry.example/a:1", "1", "3");
    await prepare({});
    await prepare({ layer: "3", toc: "4", ref: "chain-2" });
    await stop();
    layers = new FakeLayers(join(folder, "layers-2"));
    await start();
    layers.failure = (request) => {
      if (request.locations[0]?.descriptor.digest === digestOf("1")) throw new EstargzError("REGISTRY_UNAVAILABLE", "down");
    };
    await inner.restore();
    expect(layers.list().map((layer) => layer.layerDigest)).toEqual([digestOf("3")]);
    await expect(snapshotter.prepare({ key: "c1", parent: "chain-1" })).rejects.toMatchObject({ code: "UNAVAILABLE" });
    // The call has left nothing: it is tried again with the same key.
    await expect(snapshotter.stat("c1")).rejects.toMatchObject({ code: "NOT_FOUND" });
    layers.failure = () => {};
    expect(await snapshotter.prepare({ key: "c1", parent: "chain-1" })).toMatchObject([{ type: "overlay" }]);
  });

  it("removes layers and directories that nobody owns", async () => {
    allow("registry.example/a:1", "1");
    await prepare({});
    await layers
      .attach({
        owner: "77",
        locations: [{ reference: "x", descriptor: { mediaType: "", digest: digestOf("9"), size: 1 } }],
        tocDigest: digestOf("9"),
      })
      .catch(() => {});
    allow("x", "9");
    await layers.attach({
      owner: "77",
      locations: [{ reference: "x", descriptor: { mediaType: "", digest: digestOf("9"), size: 1 } }],
      tocDigest: digestOf("9"),
    });
    await inner.restore();
    expect(layers.list().map((layer) => layer.owner)).toEqual(["1"]);
    await snapshotter.remove("chain-1");
    await snapshotter.cleanup();
    expect(layers.list()).toEqual([]);
    expect(layers.collected).toBeGreaterThan(0);
  });
});

describe("id-mapped snapshots and labels", () => {
  it("gives the root directory to the mapped root, and options for containerd", async () => {
    await stop();
    await start({ remapIds: true, upperDirectoryLabel: true });
    const labels = { "containerd.io/snapshot/uidmapping": "0:10000:65536", "containerd.io/snapshot/gidmapping": "0:20000:65536" };
    const mounts = await snapshotter.prepare({ key: "mapped", parent: "", labels });
    expect(mounts).toEqual([
      expect.objectContaining({ type: "bind", options: ["uidmap=0:10000:65536", "gidmap=0:20000:65536", "rw", "rbind"] }),
    ]);
    const { uid, gid } = await stat(mounts[0]?.source ?? "");
    expect([uid, gid]).toEqual([10_000, 20_000]);
    expect((await snapshotter.stat("mapped")).labels["containerd.io/snapshot/overlay.upperdir"]).toBe(mounts[0]?.source);
    await expect(
      snapshotter.prepare({
        key: "bad",
        parent: "",
        labels: { "containerd.io/snapshot/uidmapping": "x", "containerd.io/snapshot/gidmapping": "y" },
      }),
    ).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });

  it("refuses labels that are too long, and lets a snapshot get its parent at commit", async () => {
    await expect(snapshotter.prepare({ key: "long", parent: "", labels: { a: "x".repeat(5000) } })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
    await snapshotter.prepare({ key: "a", parent: "" });
    await snapshotter.commit({ name: "base", key: "a" });
    await snapshotter.prepare({ key: "b", parent: "" });
    await snapshotter.commit({ name: "top", key: "b", parent: "base" });
    expect((await snapshotter.stat("top")).parent).toBe("base");
    await expect(snapshotter.remove("base")).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
  });
});

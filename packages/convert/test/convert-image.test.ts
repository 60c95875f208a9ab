import { readdir } from "node:fs/promises";
import { openLayer, TOC_DIGEST_ANNOTATION } from "@estargz/format";
import type { Descriptor, Layer } from "@estargz/interface";
import type { ImageStore } from "@estargz/registry";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { type ConvertEvent, convertImage, parseRecord } from "../src/index.ts";
import { DOCKER, Folders, type MadeLayer, makeLayer, newStore, OCI, pushImage, pushIndex, sha256 } from "./image-factory.ts";

const folders = new Folders();
let base: MadeLayer;
let app: MadeLayer;

beforeAll(async () => {
  base = await makeLayer({ "etc/hosts": "127.0.0.1 localhost\n", "bin/sh": "x".repeat(50_000) });
  app = await makeLayer({ "srv/app.js": "console.log('hello')\n", "srv/data": "0123456789".repeat(3000) });
});
afterEach(() => folders.remove());

async function manifestOf(
  store: ImageStore,
  target?: Descriptor,
): Promise<{ config: Record<string, unknown>; layers: readonly Descriptor[]; annotations: unknown }> {
  const fetched = await store.fetchManifest(target);
  if (fetched.kind !== "manifest") throw new Error("an index");
  const config = (await store.fetchConfig(fetched.manifest)) as Record<string, unknown>;
  return { config, layers: fetched.manifest.layers, annotations: fetched.manifest.annotations };
}

async function withLayer<T>(
  store: ImageStore,
  descriptor: Descriptor | undefined,
  use: (layer: Layer) => Promise<T>,
  externalToc?: Uint8Array,
): Promise<T> {
  if (descriptor === undefined) throw new Error("no layer");
  const blob = store.openBlob(descriptor);
  try {
    return await use(await openLayer(blob, { annotations: descriptor.annotations, externalToc }));
  } finally {
    await blob.close?.();
  }
}

function readFile(store: ImageStore, descriptor: Descriptor, path: string): Promise<string> {
  return withLayer(store, descriptor, async (layer) => {
    const entry = layer.lookup(path);
    if (entry === undefined) throw new Error(`no ${path}`);
    return new TextDecoder().decode(await layer.readFile(entry));
  });
}

describe("one image", () => {
  test("becomes an OCI image with verified layers, whatever it was; the rest of it stays", async () => {
    const [source, destination] = [await newStore(folders), await newStore(folders)];
    const history = [{ created_by: "one" }, { created_by: "two", comment: "kept" }];
    const config = { history, config: { Cmd: ["/bin/sh"] }, "org.unknown.field": { a: 1 } };
    const from = await pushImage(source, { layers: [base, app], types: DOCKER, config });
    const events: ConvertEvent[] = [];
    const result = await convertImage(source, destination, { onEvent: (event) => events.push(event) });

    const written = await manifestOf(destination);
    expect(result.descriptor.mediaType).toBe(OCI.manifest);
    expect(result.images[0]).toMatchObject({ platform: { os: "linux", architecture: "amd64" }, from: { digest: from.digest } });
    expect(written.layers.map(({ mediaType }) => mediaType)).toEqual([OCI.layer, OCI.layer]);
    expect(written.annotations).toEqual({ "org.example.kept": "yes" });
    expect(written.config).toMatchObject({ history, config: { Cmd: ["/bin/sh"] }, "org.unknown.field": { a: 1 }, architecture: "amd64" });
    for (const [index, descriptor] of written.layers.entries()) {
      const report = await withLayer(destination, descriptor, (layer) => layer.verify("full"));
      expect(report.blobDigest).toBe(descriptor.digest);
      expect((written.config["rootfs"] as { diff_ids: string[] }).diff_ids[index]).toBe(report.diffId);
    }
    expect(await readFile(destination, written.layers[0] as Descriptor, "etc/hosts")).toBe("127.0.0.1 localhost\n");
    expect(await readFile(destination, written.layers[1] as Descriptor, "srv/data")).toBe("0123456789".repeat(3000));
    const bytes = events.reduce((sum, event) => sum + (event.type === "bytes" ? event.readBytes : 0), 0);
    expect(bytes).toBe(base.blob.length + app.blob.length);
    expect(events.filter(({ type }) => type === "layer")).toHaveLength(2);
  });

  test("gives the same digests however many layers and threads work at once", async () => {
    const source = await newStore(folders);
    await pushImage(source, { layers: [base, app, base] });
    const digests = new Set<string>();
    for (const options of [{ concurrency: 1, threads: 1 }, { concurrency: 4, threads: 2 }, {}]) {
      digests.add((await convertImage(source, await newStore(folders), { ...options, chunkSizeBytes: 1000 })).descriptor.digest);
    }
    expect(digests.size).toBe(1);
  });

  test("chunk size and level are the writer's", async () => {
    const [source, small, large] = [await newStore(folders), await newStore(folders), await newStore(folders)];
    await pushImage(source, { layers: [app] });
    const chunks = async (store: ImageStore): Promise<number> => {
      const [descriptor] = (await manifestOf(store)).layers;
      return withLayer(store, descriptor as Descriptor, (layer) => Promise.resolve(layer.chunks.length));
    };
    await convertImage(source, small, { chunkSizeBytes: 1000, level: 1 });
    await convertImage(source, large);
    // The landmark is a chunk too.
    expect(await chunks(small)).toBe(32);
    expect(await chunks(large)).toBe(3);
  });

  test("takes over what is lazily readable when asked to, and drops annotations of another packing", async () => {
    const [source, first, second, third] = [
      await newStore(folders),
      await newStore(folders),
      await newStore(folders),
      await newStore(folders),
    ];
    await pushImage(source, { layers: [base, app] });
    const zstd = await convertImage(source, first, { format: "zstd:chunked" });
    const reused = await convertImage(first, second, { reuse: true });
    expect(reused.images[0]?.layers.map(({ how }) => how)).toEqual(["reused", "reused"]);
    expect(reused.images[0]?.layers.map(({ to }) => to)).toEqual(zstd.images[0]?.layers.map(({ to }) => to));
    const again = await convertImage(first, third);
    expect(again.images[0]?.layers.map(({ how }) => how)).toEqual(["converted", "converted"]);
    for (const { to } of again.images[0]?.layers ?? []) {
      expect(to.mediaType).toBe(OCI.layer);
      expect(Object.keys(to.annotations ?? {}).filter((name) => name.includes("zstd"))).toEqual([]);
    }
  });

  test("a layer that only says that it is lazily readable is converted", async () => {
    const [source, destination] = [await newStore(folders), await newStore(folders)];
    const annotations = { [TOC_DIGEST_ANNOTATION]: sha256(new Uint8Array()) };
    await pushImage(source, { layers: [app], describe: (descriptor) => ({ ...descriptor, annotations }) });
    const { images } = await convertImage(source, destination, { reuse: true });
    expect(images[0]?.layers[0]?.how).toBe("converted");
    expect(await readFile(destination, images[0]?.layers[0]?.to as Descriptor, "srv/app.js")).toBe("console.log('hello')\n");
  });

  test("layers that may not be moved stay where they are", async () => {
    const [source, destination] = [await newStore(folders), await newStore(folders)];
    const foreign = { mediaType: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", urls: ["https://example.org/layer"] };
    await pushImage(source, {
      layers: [base, app],
      describe: (descriptor, index) => (index === 0 ? { ...descriptor, ...foreign } : descriptor),
    });
    const { images } = await convertImage(source, destination);
    expect(images[0]?.layers[0]).toMatchObject({ how: "kept", to: { digest: sha256(base.blob), urls: foreign.urls } });
    expect(await destination.hasBlob(images[0]?.layers[0]?.to as Descriptor)).toBe(false);
  });
});

describe("a record of first use", () => {
  test("puts files in front, and names those that no layer has", async () => {
    const [source, destination] = [await newStore(folders), await newStore(folders)];
    await pushImage(source, { layers: [base, app] });
    const record = parseRecord("bin/sh\nsrv/data\nno/such/file\n");
    const { images, missingFiles } = await convertImage(source, destination, { record });
    expect(missingFiles).toEqual(["no/such/file"]);
    const [lower, upper] = images[0]?.layers ?? [];
    expect([lower?.frontFiles, upper?.frontFiles]).toEqual([["bin/sh"], ["srv/data"]]);
    const places = await withLayer(destination, upper?.to, async (layer) => ({
      front: layer.lookup("srv/data")?.chunks[0]?.blobOffset,
      rest: layer.lookup("srv/app.js")?.chunks[0]?.blobOffset,
      landmark: layer.prefetchEnd ?? 0,
    }));
    expect(places.front).toBeLessThan(places.landmark);
    expect(places.rest).toBeGreaterThan(places.landmark);
  });

  test("concerns its own layer only", async () => {
    const [source, destination] = [await newStore(folders), await newStore(folders)];
    await pushImage(source, { layers: [base, base] });
    const { images } = await convertImage(source, destination, { record: [{ path: "bin/sh", layerIndex: 1 }] });
    expect(images[0]?.layers.map(({ frontFiles }) => frontFiles)).toEqual([[], ["bin/sh"]]);
    expect(images[0]?.layers[0]?.to.digest).not.toBe(images[0]?.layers[1]?.to.digest);
  });
});

describe("an index", () => {
  test("keeps platforms and annotations; a layer that images share is converted once; attestations are left out", async () => {
    const [source, destination] = [await newStore(folders), await newStore(folders)];
    const amd64 = await pushImage(source, { layers: [base, app], untagged: true });
    const arm64 = await pushImage(source, {
      layers: [base],
      platform: { os: "linux", architecture: "arm64", variant: "v8" },
      untagged: true,
    });
    const attestation: Descriptor = {
      ...(await pushImage(source, { layers: [], platform: { os: "unknown", architecture: "unknown" }, untagged: true })),
      annotations: { "vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": amd64.digest },
    };
    await pushIndex(source, [amd64, arm64, attestation]);
    const events: ConvertEvent[] = [];
    const result = await convertImage(source, destination, { onEvent: (event) => events.push(event) });
    const fetched = await destination.fetchManifest();
    if (fetched.kind !== "index") throw new Error("no index");
    expect(result.descriptor).toMatchObject({ mediaType: OCI.index, digest: fetched.descriptor.digest });
    expect(fetched.index.manifests.map(({ platform }) => platform)).toEqual([amd64.platform, arm64.platform]);
    expect(fetched.index.annotations).toEqual({ "org.example.index": "kept" });
    expect(events.filter(({ type }) => type === "layer")).toHaveLength(2);
    for (const entry of fetched.index.manifests) expect((await manifestOf(destination, entry)).layers.length).toBeGreaterThan(0);
  });

  test("of which some platforms are wanted stays an index", async () => {
    const [source, destination] = [await newStore(folders), await newStore(folders)];
    const amd64 = await pushImage(source, { layers: [app], untagged: true });
    const arm64 = await pushImage(source, { layers: [base], platform: { os: "linux", architecture: "arm64" }, untagged: true });
    await pushIndex(source, [amd64, arm64]);
    const { images } = await convertImage(source, destination, { platforms: [{ os: "linux", architecture: "arm64" }] });
    expect(images.map(({ platform }) => platform)).toEqual([{ os: "linux", architecture: "arm64" }]);
    await expect(convertImage(source, destination, { platforms: [{ os: "linux", architecture: "riscv64" }] })).rejects.toMatchObject({
      code: "NOT_FOUND",
    });
  });
});

describe("other formats", () => {
  test("external TOCs are an image beside the image", async () => {
    const [source, destination] = [await newStore(folders), await newStore(folders)];
    await pushImage(source, { layers: [base, app] });
    const { tocTag, images } = await convertImage(source, destination, { format: "external-toc", lossless: true });
    expect(tocTag).toBe("latest-esgztoc");
    expect(images[0]?.layers.map(({ diffId }) => diffId)).toEqual([base.diffId, app.diffId]);
    const toc = await destination.fetchManifest("latest-esgztoc");
    if (toc.kind !== "manifest") throw new Error("an index");
    for (const { to } of images[0]?.layers ?? []) {
      const blob = toc.manifest.layers.find(({ annotations }) => annotations?.["containerd.io/snapshot/stargz/layer.digest"] === to.digest);
      const externalToc = await destination.fetchBlob(blob as Descriptor);
      expect(await withLayer(destination, to, (layer) => Promise.resolve(layer.verified), externalToc)).toBe(true);
    }
  });
});

describe("what goes wrong", () => {
  test("a layer with other content than its digest stops it; no tag is set and no file is left", async () => {
    const [source, destination, temporary] = [await newStore(folders), await newStore(folders), await folders.make()];
    // The last byte is behind the end of the tar, where a converter has no need to look.
    const shorter = (descriptor: Descriptor, index: number): Descriptor =>
      index === 0 ? { ...descriptor, size: descriptor.size - 1 } : descriptor;
    await pushImage(source, { layers: [base, app], describe: shorter });
    await expect(convertImage(source, destination, { temporaryFolder: temporary })).rejects.toMatchObject({ code: "DIGEST_MISMATCH" });
    await expect(destination.fetchManifest()).rejects.toMatchObject({ code: "NOT_FOUND" });
    expect(await readdir(temporary)).toEqual([]);
  });

  test("what is no container image is refused", async () => {
    const [source, destination] = [await newStore(folders), await newStore(folders)];
    const chart = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
    await pushImage(source, { layers: [app], describe: (descriptor) => ({ ...descriptor, mediaType: chart }) });
    await expect(convertImage(source, destination)).rejects.toThrow(`is not a container image: it holds ${chart}`);
  });

  test("bad options are refused before anything is read", async () => {
    const [source, destination] = [await newStore(folders), await newStore(folders)];
    await expect(convertImage(source, destination, { concurrency: 0 })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });

  test("an abort surfaces as its own reason and leaves no file", async () => {
    const [source, destination, temporary] = [await newStore(folders), await newStore(folders), await folders.make()];
    await pushImage(source, { layers: [base, app] });
    const controller = new AbortController();
    const running = convertImage(source, destination, {
      temporaryFolder: temporary,
      signal: controller.signal,
      onEvent: ({ type }) => {
        if (type === "bytes") controller.abort(new Error("enough"));
      },
    });
    await expect(running).rejects.toThrow("enough");
    expect(await readdir(temporary)).toEqual([]);
    await expect(destination.fetchManifest()).rejects.toMatchObject({ code: "NOT_FOUND" });
  });
});

import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import type { Descriptor } from "@estargz/interface";
import { describe, expect, test } from "vitest";
import { asLayerSource, digestOf, type ImageStore, OCI_INDEX, OCI_MANIFEST, openImageStore } from "../src/index.ts";
import { codeOf, fakeRegistry, later, pattern, testClient } from "./harness.ts";

const layer = pattern(150_000, "layout");
const layerDescriptor: Descriptor = { mediaType: "application/vnd.oci.image.layer.v1.tar", digest: digestOf(layer), size: layer.length };
const config = Buffer.from(JSON.stringify({ os: "linux", architecture: "amd64" }));
const configDescriptor: Descriptor = {
  mediaType: "application/vnd.oci.image.config.v1+json",
  digest: digestOf(config),
  size: config.length,
};
const manifest = { schemaVersion: 2, mediaType: OCI_MANIFEST, config: configDescriptor, layers: [layerDescriptor] };

async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "estargz-layout-"));
  later(() => rm(path, { recursive: true, force: true }));
  return path;
}

async function push(store: ImageStore, extra: object = {}, tag?: string): Promise<Descriptor> {
  await store.pushBlob(layerDescriptor, layer);
  await store.pushBlob(configDescriptor, config);
  return store.pushManifest(Buffer.from(JSON.stringify({ ...manifest, ...extra })), { mediaType: OCI_MANIFEST, tag });
}

/** Serves a folder's files, with ranges or without. */
async function serve(root: string, ranges: boolean): Promise<string> {
  const server = createServer((request, response) => {
    readFile(join(root, decodeURIComponent(new URL(request.url ?? "/", "http://x").pathname).replace(/^\/images/, ""))).then(
      (bytes) => {
        const [, first, last] = (ranges ? /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "") : null) ?? [];
        if (first === undefined)
          return void response.writeHead(200, { "content-length": bytes.length }).end(request.method === "HEAD" ? undefined : bytes);
        const part = bytes.subarray(Number(first), Number(last) + 1);
        response
          .writeHead(206, {
            "content-range": `bytes ${first}-${Number(first) + part.length - 1}/${bytes.length}`,
            "content-length": part.length,
          })
          .end(part);
      },
      () => response.writeHead(404).end(),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  later(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/images`;
}

const places: readonly [string, (root: string) => Promise<string>][] = [
  ["oci-layout", async (root) => `oci:${root}:v1`],
  [
    "oci-archive",
    async (root) => {
      execFileSync("tar", ["-cf", `${root}.tar`, "-C", root, "."]);
      later(() => rm(`${root}.tar`, { force: true }));
      return `oci-archive:${root}.tar:v1`;
    },
  ],
  ["http-directory", async (root) => `${await serve(root, true)}:v1`],
  ["http-directory", async (root) => `${await serve(root, false)}:v1`],
];

describe.each(places)("%s", (kind, place) => {
  async function scene(): Promise<{ store: ImageStore; pushed: Descriptor; root: string; spec: string }> {
    const root = await folder();
    const pushed = await push(openImageStore(`oci:${root}:v1`));
    const spec = await place(root);
    const client = testClient();
    const store = openImageStore(spec, { client });
    later(() => store.close());
    return { store, pushed, root, spec };
  }

  test("an image is found, read and verified", async () => {
    const { store, pushed } = await scene();
    expect(store.kind).toBe(kind);
    const image = await store.resolve({ platform: { os: "linux", architecture: "amd64" } });
    expect(image.descriptor).toEqual(pushed);
    expect(await store.fetchConfig(image.manifest)).toEqual({ os: "linux", architecture: "amd64" });
    expect(await store.listTags()).toEqual(["v1"]);
    const pieces: Uint8Array[] = [];
    for await (const piece of store.streamBlob(layerDescriptor)) pieces.push(piece);
    expect(Buffer.compare(Buffer.concat(pieces), layer)).toBe(0);
  });

  test("blobs are read at random, also by their location on disk", async () => {
    const { store } = await scene();
    const reader = asLayerSource(testClient()).open({ reference: store.reference, descriptor: layerDescriptor });
    expect(Buffer.compare(await reader.readAt(1000, 500), layer.subarray(1000, 1500))).toBe(0);
    expect(Buffer.compare((await reader.readTail(77)).bytes, layer.subarray(-77))).toBe(0);
    const parts = await reader.readRanges([
      { offset: 9, length: 9 },
      { offset: 90_000, length: 10 },
      { offset: 0, length: 0 },
    ]);
    expect(parts.map((part) => Buffer.from(part).toString("hex"))).toEqual(
      [layer.subarray(9, 18), layer.subarray(90_000, 90_010), Buffer.alloc(0)].map((part) => part.toString("hex")),
    );
    expect(await codeOf(reader.readAt(layer.length, 1))).toBe("OUT_OF_RANGE");
    await expect(reader.readAt(0, 1, { signal: AbortSignal.abort(new Error("left")) })).rejects.toThrow("left");
    await reader.close?.();
    expect(await codeOf(reader.readAt(0, 1))).toBe("CLOSED");
  });

  test("what is missing is NOT_FOUND", async () => {
    const { store } = await scene();
    const missing = { ...layerDescriptor, digest: digestOf(Buffer.from("missing")) };
    expect(await codeOf(store.openBlob(missing).readAt(0, 1))).toBe("NOT_FOUND");
    expect(await store.hasBlob(missing)).toBe(false);
    expect(await store.hasBlob(layerDescriptor)).toBe(true);
    expect(await codeOf(store.fetchManifest("other"))).toBe("NOT_FOUND");
  });

  test(kind === "oci-layout" ? "can be written to" : "cannot be written to, and says so", async () => {
    const { store } = await scene();
    expect(
      await codeOf(store.pushManifest(Buffer.from(JSON.stringify({ ...manifest, annotations: { a: "b" } })), { mediaType: OCI_MANIFEST })),
    ).toBe(kind === "oci-layout" ? "none" : "UNSUPPORTED");
  });
});

describe("layouts", () => {
  test("tags move, several images live together, and one without a tag is found when it is alone", async () => {
    const root = await folder();
    const store = openImageStore(`oci:${root}`);
    const first = await push(store);
    expect((await store.resolve()).descriptor).toEqual(first);
    const second = await push(store, { annotations: { n: "2" } }, "two");
    const moved = await push(store, { annotations: { n: "3" } }, "two");
    expect((await openImageStore(`oci:${root}:two`).fetchManifest()).descriptor).toEqual(moved);
    expect((await openImageStore(`oci:${root}@${second.digest}`).fetchManifest()).descriptor.digest).toBe(second.digest);
    await expect(store.resolve()).rejects.toMatchObject({ code: "NOT_FOUND", message: expect.stringContaining("two") });
  });
  test("pushes at the same time lose nothing, and nothing half written is left", async () => {
    const root = await folder();
    await Promise.all(["a", "b", "c", "d", "e"].map((tag) => push(openImageStore(`oci:${root}`), { annotations: { tag } }, tag)));
    expect((await openImageStore(`oci:${root}`).listTags()).toSorted((a, b) => a.localeCompare(b))).toEqual(["a", "b", "c", "d", "e"]);
    expect((await readdir(root)).filter((name) => name.startsWith("."))).toEqual([]);
    expect((await readdir(join(root, "blobs/sha256"))).filter((name) => name.startsWith("."))).toEqual([]);
  });
  test("a lock of a process that is gone is taken over, one of another machine is waited for", async () => {
    const root = await folder();
    await push(openImageStore(`oci:${root}`), {}, "a");
    const gone = execFileSync(process.execPath, ["-p", "process.pid"], { encoding: "utf8" }).trim();
    await writeFile(join(root, ".lock"), `${gone} ${hostname()}`);
    await push(openImageStore(`oci:${root}`), {}, "b");
    await writeFile(join(root, ".lock"), `${gone} another-machine`);
    const pushing = push(openImageStore(`oci:${root}`), {}, "c");
    const isFirst = await Promise.race([pushing, new Promise((resolve) => setTimeout(resolve, 500, "still waiting"))]);
    expect(isFirst).toBe("still waiting");
    await rm(join(root, ".lock"));
    await pushing;
    expect(await openImageStore(`oci:${root}`).listTags()).toEqual(["a", "b", "c"]);
  });
  test("an index that cannot be replaced is a typed error, and nothing half written is left", async () => {
    const root = await folder();
    const store = openImageStore(`oci:${root}`);
    await push(store, {}, "a");
    await rm(join(root, "oci-layout"));
    await mkdir(join(root, "oci-layout", "in-the-way"), { recursive: true });
    expect(await codeOf(push(store, {}, "b"))).toBe("IO_ERROR");
    expect((await readdir(root)).filter((name) => name.startsWith("."))).toEqual([]);
  });
  test("content that is not what its descriptor says is not stored", async () => {
    const root = await folder();
    const store = openImageStore(`oci:${root}`);
    expect(await codeOf(store.pushBlob(layerDescriptor, layer.subarray(1)))).toBe("SHORT_READ");
    expect(await codeOf(store.pushBlob(layerDescriptor, Buffer.alloc(layer.length)))).toBe("DIGEST_MISMATCH");
    expect(await store.hasBlob(layerDescriptor)).toBe(false);
  });
  test("damage is found", async () => {
    const root = await folder();
    const store = openImageStore(`oci:${root}:v1`);
    const pushed = await push(store);
    const path = (descriptor: Descriptor) => join(root, "blobs/sha256", descriptor.digest.slice(7));
    await truncate(path(layerDescriptor), 1000);
    expect(await codeOf(store.openBlob(layerDescriptor).readAt(500, 1000))).toBe("SHORT_READ");
    await writeFile(path(pushed), "{}");
    expect(await codeOf(store.resolve())).toBe("DIGEST_MISMATCH");
    await writeFile(join(root, "index.json"), '{"manifests":[{"digest":"sha256:../../../etc/passwd","size":1,"mediaType":"x"}]}');
    expect(await codeOf(store.resolve())).toBe("INVALID_RESPONSE");
  });
  test("referrers are those of the index", async () => {
    const root = await folder();
    const store = openImageStore(`oci:${root}:v1`);
    const subject = await push(store);
    const referrer = await push(store, { subject, artifactType: "application/x.sbom" }, "sbom");
    expect((await store.referrers(subject.digest)).map(({ digest }) => digest)).toEqual([referrer.digest]);
    expect(await store.referrers(subject.digest, { artifactType: "other" })).toEqual([]);
  });
  test("an archive that is none, or is cut off, is an error", async () => {
    const root = await folder();
    await writeFile(join(root, "a.tar"), Buffer.alloc(2048, 1));
    expect(await codeOf(openImageStore(`oci-archive:${join(root, "a.tar")}`).resolve())).toBe("INVALID_TAR");
    await push(openImageStore(`oci:${join(root, "x")}`));
    execFileSync("tar", ["-cf", join(root, "b.tar"), "-C", join(root, "x"), "."]);
    await truncate(join(root, "b.tar"), 100_000);
    expect(await codeOf(openImageStore(`oci-archive:${join(root, "b.tar")}`).resolve())).toBe("INVALID_TAR");
    expect(await codeOf(openImageStore(`oci-archive:${join(root, "missing.tar")}`).resolve())).toBe("NOT_FOUND");
  });
  test("an image goes from a registry to a layout and back, byte for byte", async () => {
    const registry = await fakeRegistry();
    const client = testClient();
    const source = openImageStore(`docker://${registry.address}/a/b:v1`, { client });
    const index = await push(source, {}, "child").then((child) => ({
      schemaVersion: 2,
      mediaType: OCI_INDEX,
      manifests: [{ ...child, platform: { os: "linux", architecture: "amd64" } }],
    }));
    await source.pushManifest(Buffer.from(JSON.stringify(index)), { mediaType: OCI_INDEX });
    const root = await folder();
    const target = openImageStore(`oci:${root}:v1`);
    const { root: top, manifest: found, descriptor } = await source.resolve({ platform: { os: "linux", architecture: "amd64" } });
    for (const blob of [found.config, ...found.layers]) await target.pushBlob(blob, () => source.streamBlob(blob));
    await target.pushManifest((await source.fetchManifest(descriptor)).bytes, { mediaType: descriptor.mediaType, untagged: true });
    await target.pushManifest(top.bytes, { mediaType: top.descriptor.mediaType });
    const copied = await target.resolve({ platform: { os: "linux", architecture: "amd64" } });
    expect(copied.root.descriptor).toEqual(top.descriptor);
    expect(copied.manifest).toEqual(found);
  });
});

test.each(["", "oci:", "docker-archive:x", "dir:/x", "https://user:pass@host/x", "https://host/x?y=z", "a/UPPER"])(
  "%j is refused",
  (spec) => {
    expect(() => openImageStore(spec, { client: testClient() })).toThrow(expect.objectContaining({ code: "INVALID_REFERENCE" }));
  },
);

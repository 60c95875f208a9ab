// The categories of the distribution specification's conformance suite (pull, push, content discovery, content management),
// as a client sees them: against Debian's docker-registry and the simulator.

import type { Descriptor } from "@estargz/interface";
import { type FakeRegistry, findDockerRegistry, startDockerRegistry, startFakeRegistry } from "@estargz/testing";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  createRegistryClient,
  DOCKER_MANIFEST,
  digestOf,
  OCI_INDEX,
  OCI_MANIFEST,
  type RegistryClient,
  type RegistryRepository,
} from "../src/index.ts";
import { codeOf, pattern } from "./harness.ts";

const LAYER = "application/vnd.oci.image.layer.v1.tar+gzip";
const CONFIG = "application/vnd.oci.image.config.v1+json";

function describeBytes(bytes: Uint8Array, mediaType: string): Descriptor {
  return { mediaType, digest: digestOf(bytes), size: bytes.length };
}

interface Server {
  readonly address: string;
  close(): Promise<void>;
}

const servers: readonly [string, () => Promise<Server>, { readonly referrersApi: boolean }][] = [
  ["docker-registry", () => startDockerRegistry(), { referrersApi: false }],
  ["the simulator", () => startFakeRegistry({ profile: "distribution" }), { referrersApi: false }],
  ["the simulator with referrers", () => startFakeRegistry({ profile: "zot" }), { referrersApi: true }],
];
const available = servers.filter(([name]) => name !== "docker-registry" || findDockerRegistry() !== undefined);

describe.each(available)("against %s", (_name, start, { referrersApi }) => {
  let server: Server;
  let client: RegistryClient;
  let repository: RegistryRepository;
  const layer = pattern(200_000, "conformance");
  const layerDescriptor = describeBytes(layer, LAYER);
  const config = Buffer.from(
    JSON.stringify({ os: "linux", architecture: "amd64", config: { Env: ["A=B"] }, rootfs: { type: "layers", diff_ids: [] } }),
  );
  const configDescriptor = describeBytes(config, CONFIG);

  function manifestOf(extra: object = {}): Buffer {
    return Buffer.from(
      JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, config: configDescriptor, layers: [layerDescriptor], ...extra }),
    );
  }

  async function pushBase(target: RegistryRepository): Promise<void> {
    await target.pushBlob(layerDescriptor, layer);
    await target.pushBlob(configDescriptor, config);
  }

  beforeAll(async () => {
    server = await start();
    client = createRegistryClient({ proxy: "none", retry: { minDelayMs: 1 } });
    repository = client.repository(`${server.address}/conformance/base:v1`);
    await pushBase(repository);
  });
  afterAll(async () => {
    await client?.close();
    await server?.close();
  });

  describe("push", () => {
    test("a blob in one request, and not again", async () => {
      const bytes = pattern(5000, "one");
      expect(await repository.pushBlob(describeBytes(bytes, LAYER), bytes)).toBe("uploaded");
      expect(await repository.pushBlob(describeBytes(bytes, LAYER), bytes)).toBe("exists");
    });
    test("an empty blob", async () => {
      const empty = describeBytes(new Uint8Array(), LAYER);
      await repository.pushBlob(empty, new Uint8Array());
      expect(await repository.hasBlob(empty)).toBe(true);
    });
    test("a blob from a stream", async () => {
      const bytes = pattern(300_000, "stream");
      const content = async function* () {
        for (let at = 0; at < bytes.length; at += 50_000) yield bytes.subarray(at, at + 50_000);
      };
      expect(await repository.pushBlob(describeBytes(bytes, LAYER), content)).toBe("uploaded");
    });
    test("a blob in chunks", async () => {
      const bytes = pattern(100_001, "chunks");
      expect(await repository.pushBlob(describeBytes(bytes, LAYER), bytes, { chunkBytes: 30_000 })).toBe("uploaded");
      expect(Buffer.compare(await repository.fetchBlob(describeBytes(bytes, LAYER)), bytes)).toBe(0);
    });
    test("a blob with a wrong digest is rejected", async () => {
      const wrong = { ...describeBytes(pattern(1000, "claimed"), LAYER), size: 1000 };
      expect(await codeOf(repository.pushBlob(wrong, pattern(1000, "sent")))).toBe("PUSH_REJECTED");
      expect(await repository.hasBlob(wrong)).toBe(false);
    });
    test("a blob of another size than described is refused before it is sent", async () => {
      expect(await codeOf(repository.pushBlob({ ...layerDescriptor, size: 3 }, layer))).toBe("INVALID_ARGUMENT");
    });
    test("a blob mounted from another repository", async () => {
      const target = client.repository(`${server.address}/conformance/mounted`);
      expect(await target.pushBlob(layerDescriptor, layer, { mountFrom: ["conformance/base"] })).toBe("mounted");
      expect(await target.hasBlob(layerDescriptor)).toBe(true);
    });
    test("a mount of a blob that is not there falls back to its bytes", async () => {
      const bytes = pattern(4000, "not there");
      const target = client.repository(`${server.address}/conformance/fallback`);
      expect(await target.pushBlob(describeBytes(bytes, LAYER), bytes, { mountFrom: ["conformance/base"] })).toBe("uploaded");
    });
    test("a manifest by tag, by digest, and in Docker's type", async () => {
      const tagged = await repository.pushManifest(manifestOf(), { mediaType: OCI_MANIFEST });
      const untagged = await repository.pushManifest(manifestOf({ annotations: { a: "b" } }), { mediaType: OCI_MANIFEST, untagged: true });
      const docker = await repository.pushManifest(manifestOf({ mediaType: DOCKER_MANIFEST }), {
        mediaType: DOCKER_MANIFEST,
        tag: "docker",
      });
      for (const descriptor of [tagged, untagged, docker])
        expect((await repository.fetchManifest(descriptor)).descriptor).toEqual(descriptor);
    });
    test("an index", async () => {
      const image = await repository.pushManifest(manifestOf(), { mediaType: OCI_MANIFEST, untagged: true });
      const manifests = [
        { ...image, platform: { os: "linux", architecture: "amd64" } },
        { ...image, platform: { os: "unknown", architecture: "unknown" } },
      ];
      const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests }));
      await repository.pushManifest(bytes, { mediaType: OCI_INDEX, tag: "index" });
      const resolved = await client.resolve(`${server.address}/conformance/base:index`, {
        platform: { os: "linux", architecture: "amd64" },
      });
      expect(resolved.root.kind).toBe("index");
      expect(resolved.descriptor.digest).toBe(image.digest);
      expect(
        await codeOf(client.resolve(`${server.address}/conformance/base:index`, { platform: { os: "linux", architecture: "s390x" } })),
      ).toBe("NOT_FOUND");
    });
  });

  describe("pull", () => {
    test("by tag, and by digest", async () => {
      const pushed = await repository.pushManifest(manifestOf(), { mediaType: OCI_MANIFEST, tag: "pull" });
      const byTag = await client.resolve(`${server.address}/conformance/base:pull`);
      const byDigest = await client.resolve(`${server.address}/conformance/base@${pushed.digest}`);
      expect(byTag.descriptor).toEqual(pushed);
      expect(byDigest.manifest).toEqual(byTag.manifest);
      expect(await repository.fetchConfig(byTag.manifest)).toMatchObject({ architecture: "amd64", config: { Env: ["A=B"] } });
    });
    test("a whole blob, a part of it, its end", async () => {
      expect(Buffer.compare(await repository.fetchBlob(layerDescriptor), layer)).toBe(0);
      const reader = repository.openBlob(layerDescriptor);
      expect(Buffer.compare(await reader.readAt(1234, 5678), layer.subarray(1234, 1234 + 5678))).toBe(0);
      expect(Buffer.compare((await reader.readTail(99)).bytes, layer.subarray(-99))).toBe(0);
      const unknown = repository.openBlob({ ...layerDescriptor, size: -1 });
      expect((await unknown.readTail(99)).size).toBe(layer.length);
    });
    test("what is not there is NOT_FOUND", async () => {
      const missing = describeBytes(Buffer.from("missing"), LAYER);
      expect(await codeOf(repository.openBlob(missing).readAt(0, 1))).toBe("NOT_FOUND");
      expect(await repository.hasBlob(missing)).toBe(false);
      expect(await codeOf(client.resolve(`${server.address}/conformance/base:missing`))).toBe("NOT_FOUND");
      expect(await codeOf(client.resolve(`${server.address}/conformance/nothing:v1`))).toBe("NOT_FOUND");
    });
  });

  describe("content discovery", () => {
    test("tags", async () => {
      const target = client.repository(`${server.address}/conformance/tags:t1`);
      await pushBase(target);
      for (const tag of ["t1", "t2", "t3"])
        await target.pushManifest(manifestOf({ annotations: { tag } }), { mediaType: OCI_MANIFEST, tag });
      expect(new Set(await target.listTags())).toEqual(new Set(["t1", "t2", "t3"]));
    });
    test("referrers, of any type and of one", async () => {
      const target = client.repository(`${server.address}/conformance/referrers:v1`);
      await pushBase(target);
      const subject = await target.pushManifest(manifestOf(), { mediaType: OCI_MANIFEST });
      expect(await target.referrers(subject.digest)).toEqual([]);
      const types = ["application/x.sbom", "application/x.signature", "application/x.sbom"];
      for (const [index, artifactType] of types.entries()) {
        const bytes = manifestOf({ artifactType, subject, annotations: { index: String(index) } });
        await target.pushManifest(bytes, { mediaType: OCI_MANIFEST, untagged: true });
      }
      expect(await target.referrers(subject.digest)).toHaveLength(3);
      const sboms = await target.referrers(subject.digest, { artifactType: "application/x.sbom" });
      expect(sboms.map(({ annotations }) => annotations?.["index"])).toEqual(["0", "2"]);
      const tags = await target.listTags();
      expect(tags.includes(subject.digest.replace(":", "-"))).toBe(!referrersApi);
    });
  });

  describe("content management", () => {
    test("deletes a manifest by digest and its tag is gone", async () => {
      const pushed = await repository.pushManifest(manifestOf({ annotations: { gone: "soon" } }), { mediaType: OCI_MANIFEST, tag: "gone" });
      await repository.deleteManifest(pushed.digest);
      expect(await codeOf(repository.fetchManifest("gone"))).toBe("NOT_FOUND");
      expect(await codeOf(repository.deleteManifest(pushed.digest))).toBe("NOT_FOUND");
    });
    test("deletes a blob", async () => {
      const bytes = pattern(3000, "to delete");
      const descriptor = describeBytes(bytes, LAYER);
      await repository.pushBlob(descriptor, bytes);
      await repository.deleteBlob(descriptor.digest);
      expect(await repository.hasBlob(descriptor)).toBe(false);
    });
  });
});

describe("uploads that are cut", () => {
  async function scene(): Promise<{ registry: FakeRegistry; repository: RegistryRepository; client: RegistryClient }> {
    const registry = await startFakeRegistry();
    const client = createRegistryClient({ proxy: "none", retry: { minDelayMs: 1 } });
    return { registry, client, repository: client.repository(`${registry.address}/a/b`) };
  }

  test("a chunk is resumed from where the registry is", async () => {
    const { registry, repository, client } = await scene();
    const bytes = pattern(90_000, "resumed");
    registry.inject({ method: "PATCH", skip: 1, cutUploadAfterBytes: 10_000 });
    try {
      expect(await repository.pushBlob(describeBytes(bytes, LAYER), bytes, { chunkBytes: 30_000 })).toBe("uploaded");
      const patches = registry.requests.filter(({ method }) => method === "PATCH").map(({ headers }) => headers["content-range"]);
      expect(patches[0]).toBe("0-29999");
      expect(patches[1]).toBe("30000-59999");
      const resumed = Number(/^(\d+)-59999$/.exec(patches[2] ?? "")?.[1]);
      expect(resumed).toBeGreaterThan(30_000);
      expect(Buffer.compare(await repository.fetchBlob(describeBytes(bytes, LAYER)), bytes)).toBe(0);
    } finally {
      await client.close();
      await registry.close();
    }
  });

  test("an upload in one request is begun anew, its content asked for again", async () => {
    const { registry, repository, client } = await scene();
    const bytes = pattern(500_000, "anew");
    registry.inject({ method: "PUT", cutUploadAfterBytes: 10_000 });
    let opened = 0;
    const content = async function* () {
      opened += 1;
      yield bytes;
    };
    try {
      expect(await repository.pushBlob(describeBytes(bytes, LAYER), content)).toBe("uploaded");
      expect(opened).toBe(2);
    } finally {
      await client.close();
      await registry.close();
    }
  });
});

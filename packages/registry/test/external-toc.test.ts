import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Descriptor, parseDigest } from "@estargz/interface";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createRegistryClient, digestOf, externalTocTag, fetchExternalToc, OCI_CONFIG, OCI_MANIFEST, openOciLayout } from "../src/index.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "estargz-toc-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const layer = parseDigest(`sha256:${"a".repeat(64)}`);

test("the tag of the image with the TOCs follows from the image's own", async () => {
  await using client = createRegistryClient();
  expect(externalTocTag(client.repository("registry.example:5000/app:1.2"))).toBe("1.2-esgztoc");
  expect(externalTocTag(client.repository("registry.example/app"))).toBe("latest-esgztoc");
  expect(externalTocTag(openOciLayout(folder, { tag: "v1" }))).toBe("v1-esgztoc");
  expect(() => externalTocTag(client.repository(`registry.example/app@${layer}`))).toThrow("names no tag");
});

test("a layer's TOC is found by its annotation, or missed by name", async () => {
  const store = openOciLayout(folder, { tag: "v1" });
  const toc = Buffer.from("the TOC's bytes");
  const config = Buffer.from("{}");
  const describe = (mediaType: string, bytes: Buffer): Descriptor => ({ mediaType, digest: digestOf(bytes), size: bytes.length });
  await store.pushBlob(describe(OCI_CONFIG, config), config);
  await store.pushBlob(describe("", toc), toc);
  const annotations = { "containerd.io/snapshot/stargz/layer.digest": layer };
  const layers = [{ ...describe("application/vnd.oci.image.layer.v1.tar+gzip", toc), annotations }];
  const manifest = { schemaVersion: 2, mediaType: OCI_MANIFEST, config: describe(OCI_CONFIG, config), layers };
  await store.pushManifest(Buffer.from(JSON.stringify(manifest)), { mediaType: OCI_MANIFEST, tag: "v1-esgztoc" });
  expect(Buffer.from(await fetchExternalToc(store, layer)).toString()).toBe("the TOC's bytes");
  const other = parseDigest(`sha256:${"b".repeat(64)}`);
  await expect(fetchExternalToc(store, other)).rejects.toMatchObject({ code: "NOT_FOUND" });
  await expect(fetchExternalToc(openOciLayout(folder, { tag: "v2" }), layer)).rejects.toMatchObject({ code: "NOT_FOUND" });
});

import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { directory, file, type LayerInput, writeTar } from "@estargz/format";
import { type Descriptor, type Platform, parseDigest } from "@estargz/interface";
import { type ImageStore, openOciLayout } from "@estargz/registry";

export const OCI = {
  manifest: "application/vnd.oci.image.manifest.v1+json",
  index: "application/vnd.oci.image.index.v1+json",
  config: "application/vnd.oci.image.config.v1+json",
  layer: "application/vnd.oci.image.layer.v1.tar+gzip",
};
export const DOCKER = {
  manifest: "application/vnd.docker.distribution.manifest.v2+json",
  config: "application/vnd.docker.container.image.v1+json",
  layer: "application/vnd.docker.image.rootfs.diff.tar.gzip",
};

export function sha256(bytes: Uint8Array): Descriptor["digest"] {
  return parseDigest(`sha256:${createHash("sha256").update(bytes).digest("hex")}`);
}

/** Temporary folders, gone after the test. */
export class Folders {
  readonly #paths: string[] = [];

  async make(): Promise<string> {
    const path = await mkdtemp(join(tmpdir(), "estargz-convert-test-"));
    this.#paths.push(path);
    return path;
  }

  async remove(): Promise<void> {
    for (const path of this.#paths.splice(0)) await rm(path, { recursive: true, force: true });
  }
}

export interface MadeLayer {
  readonly blob: Uint8Array;
  readonly diffId: Descriptor["digest"];
}

/** A gzip layer of files; contents by path. */
export async function makeLayer(files: Readonly<Record<string, string>>): Promise<MadeLayer> {
  const entries: LayerInput[] = [];
  const folders = new Set<string>();
  for (const [path, text] of Object.entries(files)) {
    const folder = path.includes("/") ? path.slice(0, path.lastIndexOf("/")) : undefined;
    if (folder !== undefined && !folders.has(folder)) entries.push(directory(folder));
    if (folder !== undefined) folders.add(folder);
    entries.push(file(path, text));
  }
  const pieces: Uint8Array[] = [];
  for await (const piece of writeTar(entries)) pieces.push(piece);
  const tar = Buffer.concat(pieces);
  return { blob: gzipSync(tar), diffId: sha256(tar) };
}

export interface ImageParts {
  readonly layers: readonly MadeLayer[];
  readonly types?: typeof DOCKER;
  readonly platform?: Platform;
  readonly config?: Record<string, unknown>;
  /** Changes the layers' descriptors. */
  readonly describe?: (descriptor: Descriptor, index: number) => Descriptor;
  readonly untagged?: boolean;
}

/** Stores an image; gives its manifest's descriptor. */
export async function pushImage(store: ImageStore, parts: ImageParts): Promise<Descriptor> {
  const types = parts.types ?? OCI;
  const layers: Descriptor[] = [];
  for (const [index, { blob }] of parts.layers.entries()) {
    const plain: Descriptor = { mediaType: types.layer, digest: sha256(blob), size: blob.length };
    const descriptor = parts.describe?.(plain, index) ?? plain;
    await store.pushBlob(plain, blob);
    layers.push(descriptor);
  }
  const platform = parts.platform ?? { os: "linux", architecture: "amd64" };
  const document = { ...platform, ...parts.config, rootfs: { type: "layers", diff_ids: parts.layers.map(({ diffId }) => diffId) } };
  const bytes = Buffer.from(JSON.stringify(document));
  const config: Descriptor = { mediaType: types.config, digest: sha256(bytes), size: bytes.length };
  await store.pushBlob(config, bytes);
  const manifest = { schemaVersion: 2, mediaType: types.manifest, config, layers, annotations: { "org.example.kept": "yes" } };
  const untagged = parts.untagged ?? false;
  return { ...(await store.pushManifest(Buffer.from(JSON.stringify(manifest)), { mediaType: types.manifest, untagged })), platform };
}

export async function pushIndex(store: ImageStore, manifests: readonly Descriptor[]): Promise<Descriptor> {
  const index = { schemaVersion: 2, mediaType: OCI.index, manifests, annotations: { "org.example.index": "kept" } };
  return store.pushManifest(Buffer.from(JSON.stringify(index)), { mediaType: OCI.index });
}

/** A new OCI layout. */
export async function newStore(folders: Folders, tag = "latest"): Promise<ImageStore> {
  return openOciLayout(join(await folders.make(), "layout"), { tag });
}

import { createHash, randomUUID } from "node:crypto";
import type { Descriptor, Digest } from "@estargz/interface";

/** A stored manifest. */
interface StoredManifest {
  readonly bytes: Uint8Array;
  readonly mediaType: string;
}

/** An upload in progress. */
export interface StoredUpload {
  readonly repository: string;
  pieces: Uint8Array[];
  size: number;
}

interface Repository {
  readonly manifests: Map<string, StoredManifest>;
  readonly tags: Map<string, Digest>;
  readonly blobs: Set<string>;
}

/** sha256 of bytes. */
export function sha256(bytes: Uint8Array): Digest {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}` as Digest;
}

/** An image to put into a fake registry. */
export interface FakeImage {
  readonly layers: readonly {
    readonly bytes: Uint8Array;
    readonly mediaType?: string | undefined;
    readonly annotations?: Readonly<Record<string, string>> | undefined;
  }[];
  readonly config?: Readonly<Record<string, unknown>> | undefined;
}

/** What a fake registry holds, in memory. */
export class FakeContent {
  readonly #blobs = new Map<string, Uint8Array>();
  readonly #repositories = new Map<string, Repository>();
  readonly uploads: Map<string, StoredUpload> = new Map();

  repository(name: string): Repository {
    let repository = this.#repositories.get(name);
    if (repository === undefined) {
      repository = { manifests: new Map(), tags: new Map(), blobs: new Set() };
      this.#repositories.set(name, repository);
    }
    return repository;
  }

  blob(repository: string, digest: string): Uint8Array | undefined {
    return this.#repositories.get(repository)?.blobs.has(digest) === true ? this.#blobs.get(digest) : undefined;
  }

  /** Content by digest, whatever repository it is in. */
  bytes(digest: string): Uint8Array | undefined {
    return this.#blobs.get(digest);
  }

  putBlob(repository: string, bytes: Uint8Array, mediaType = "application/vnd.oci.image.layer.v1.tar+gzip"): Descriptor {
    const digest = sha256(bytes);
    this.#blobs.set(digest, bytes);
    this.repository(repository).blobs.add(digest);
    return { mediaType, digest, size: bytes.length };
  }

  putManifest(repository: string, bytes: Uint8Array, mediaType: string, tag?: string): Descriptor {
    const digest = sha256(bytes);
    const { manifests, tags } = this.repository(repository);
    manifests.set(digest, { bytes, mediaType });
    if (tag !== undefined) tags.set(tag, digest);
    return { mediaType, digest, size: bytes.length };
  }

  /** Stores an image's blobs and its manifest, and tags it. */
  putImage(repository: string, tag: string, image: FakeImage): { readonly descriptor: Descriptor; readonly layers: readonly Descriptor[] } {
    const config = { os: "linux", architecture: "amd64", rootfs: { type: "layers", diff_ids: [] }, ...image.config };
    const configDescriptor = this.putBlob(repository, Buffer.from(JSON.stringify(config)), "application/vnd.oci.image.config.v1+json");
    const layers = image.layers.map(({ bytes, mediaType, annotations }): Descriptor => {
      const descriptor = this.putBlob(repository, bytes, mediaType);
      return annotations === undefined ? descriptor : { ...descriptor, annotations };
    });
    const mediaType = "application/vnd.oci.image.manifest.v1+json";
    const manifest = { schemaVersion: 2, mediaType, config: configDescriptor, layers };
    return { descriptor: this.putManifest(repository, Buffer.from(JSON.stringify(manifest)), mediaType, tag), layers };
  }

  openUpload(repository: string): string {
    const id = randomUUID();
    this.uploads.set(id, { repository, pieces: [], size: 0 });
    return id;
  }
}

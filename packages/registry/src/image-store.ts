import type { Descriptor, Digest, Platform, ReaderAt } from "@estargz/interface";
import type { BlobContent } from "./blob-content.ts";
import type { FetchedManifest, ImageConfig, ImageIndex, ImageManifest } from "./manifest.ts";

/** Options of everything that waits for a server or a disk. */
export interface StoreOptions {
  readonly signal?: AbortSignal | undefined;
}

/** One image of a repository, found by tag or digest and by platform. */
export interface ResolvedImage {
  /** What the tag or digest leads to: an index, or the manifest itself. */
  readonly root: FetchedManifest;
  /** The index that the manifest was chosen from, if there is one. */
  readonly index: ImageIndex | undefined;
  readonly descriptor: Descriptor;
  readonly manifest: ImageManifest;
  /** The manifest's exact bytes. */
  readonly bytes: Uint8Array;
}

/** Options of {@link ImageStore.resolve}. */
export interface ResolveOptions extends StoreOptions {
  /** Image to choose from an index. Default: Linux on this machine's architecture. */
  readonly platform?: Platform | undefined;
}

/** How a manifest is pushed. */
export interface PushManifestOptions extends StoreOptions {
  readonly mediaType: string;
  /** Tag to set. Default: the store's own tag; without one the manifest is stored by digest only. */
  readonly tag?: string | undefined;
  /** Store by digest only, whatever the store's own tag is. Default false. */
  readonly untagged?: boolean | undefined;
}

/** How a blob is pushed. */
export interface PushBlobOptions extends StoreOptions {
  /** Repositories of the same registry that may have the blob already: it is mounted from there without its bytes. */
  readonly mountFrom?: readonly string[] | undefined;
  /** Bytes of one request; 0 for one request with all. Default 0. */
  readonly chunkBytes?: number | undefined;
}

/** What became of a pushed blob. */
export type PushOutcome = "exists" | "mounted" | "uploaded";

/** A place that holds the images of one repository: a registry's repository, an OCI layout, a folder on a web server. */
export interface ImageStore {
  /** What kind of place it is. */
  readonly kind: "registry" | "oci-layout" | "oci-archive" | "http-directory";
  /** How a `LayerLocation` names this place. */
  readonly reference: string;
  /**
   * Finds an image by the store's tag or digest, and by platform.
   *
   * @throws `NOT_FOUND` when there is no such tag, digest or platform.
   */
  resolve(options?: ResolveOptions): Promise<ResolvedImage>;
  /** Fetches a manifest or index by tag, digest or descriptor, verified. Default: the store's tag or digest. */
  fetchManifest(target?: string | Descriptor, options?: StoreOptions): Promise<FetchedManifest>;
  /** Fetches an image's configuration, verified. */
  fetchConfig(manifest: ImageManifest, options?: StoreOptions): Promise<ImageConfig>;
  /** Fetches a small blob whole, verified. @throws `LIMIT_EXCEEDED` above `maxBytes` (default 16 MiB). */
  fetchBlob(descriptor: Descriptor, options?: StoreOptions & { readonly maxBytes?: number | undefined }): Promise<Uint8Array>;
  /** Gives random access to a blob; no I/O. Ranges are not verified: that takes a TOC. */
  openBlob(descriptor: Descriptor): ReaderAt;
  /** Streams a whole blob, verified: throws at its end if it was not what the descriptor says. */
  streamBlob(descriptor: Descriptor, options?: StoreOptions): AsyncIterable<Uint8Array>;
  /** Whether a blob is there. */
  hasBlob(descriptor: Descriptor, options?: StoreOptions): Promise<boolean>;
  /** Stores a blob unless it is there. @throws `PUSH_REJECTED`, `UNSUPPORTED` for places that cannot be written. */
  pushBlob(descriptor: Descriptor, content: BlobContent, options?: PushBlobOptions): Promise<PushOutcome>;
  /** Stores a manifest or index and gives its descriptor. */
  pushManifest(bytes: Uint8Array, options: PushManifestOptions): Promise<Descriptor>;
  /** Tags of the repository. */
  listTags(options?: StoreOptions): Promise<readonly string[]>;
  /** Manifests that refer to `digest` as their subject. */
  referrers(digest: Digest, options?: StoreOptions & { readonly artifactType?: string | undefined }): Promise<readonly Descriptor[]>;
  /** Lets go of connections and handles that this store opened itself. Idempotent. */
  close(): Promise<void>;
}

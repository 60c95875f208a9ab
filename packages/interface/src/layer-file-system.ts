import type { Digest } from "./digest.ts";
import type { LayerLocation } from "./layer-source.ts";

/** What a layer is attached with. */
export interface AttachRequest {
  /** Who holds the layer (a snapshot's key or id); handed to `detach`. One owner holds one layer. */
  readonly owner: string;
  /** Where its blob can be read from; tried in order. A layer that several owners hold keeps all their locations. */
  readonly locations: readonly LayerLocation[];
  /** Expected digest of the TOC; `undefined` only together with `allowUnverified`. */
  readonly tocDigest: Digest | undefined;
  /** Opens a layer that no TOC digest is known for. Such a layer is never shared with others. Default false. */
  readonly allowUnverified?: boolean | undefined;
  /** Bytes to prefetch when the layer has no landmark. Default 0. */
  readonly prefetchBytes?: number | undefined;
}

/** A layer that is shown to the kernel. */
export interface AttachedLayer {
  readonly owner: string;
  /** Absolute path of the layer's root directory, for an overlay's `lowerdir`; short, without `:` or `,`; never used twice. */
  readonly path: string;
  /**
   * The same directory, where absent extended attributes are answered as on a local file system (ENODATA); at `path`
   * questions for them may fail with EOPNOTSUPP. Slower; for programs that compare trees. Default: `path`.
   */
  readonly exactPath?: string | undefined;
  readonly layerDigest: Digest;
  readonly tocDigest: Digest;
  /** Owner of the layer's root directory: an overlay's upper directory takes it over. Default 0, 0. */
  readonly rootOwner?: { readonly uid: number; readonly gid: number } | undefined;
}

/** Local share of a layer. */
export interface LayerCoverage {
  readonly totalBytes: number;
  readonly localBytes: number;
  /** Inodes of the layer. */
  readonly inodes: number;
}

/** Shows layers as directories: what `@estargz/fs` gives to `@estargz/snapshotter` and to library users. */
export interface LayerFileSystem {
  /**
   * Opens a layer and shows it. Resolves as soon as its files can be read: one round trip, or none when it is
   * known locally. Idempotent for the same owner and layer. Never waits for a prefetch.
   *
   * @throws `NOT_ESTARGZ`, `INVALID_TOC`, `DIGEST_MISMATCH`, `UNVERIFIED`, `MOUNT_FAILED` and the codes of its source.
   */
  attach(request: AttachRequest, options?: { readonly signal?: AbortSignal | undefined }): Promise<AttachedLayer>;
  /**
   * Begins to open layers that will be attached soon. Never throws; an error shows at `attach`. `tocDigest` may be
   * undefined here (containerd tells it layer by layer): the TOC is fetched and hashed, and compared at `attach`.
   */
  expect(requests: readonly Omit<AttachRequest, "owner">[]): void;
  /** The layer an owner holds. */
  get(owner: string): AttachedLayer | undefined;
  /** Every attached layer, one for each owner. */
  list(): readonly AttachedLayer[];
  /** Checks that an owner's layer answers and that its source is reachable if bytes are still missing. */
  check(owner: string, options?: { readonly signal?: AbortSignal | undefined }): Promise<void>;
  /** Local share of an owner's layer. */
  coverage(owner: string): LayerCoverage | undefined;
  /** Lets go of an owner's layer; the last owner's leaving takes the directory away. Unknown owners are no error. */
  detach(owner: string): Promise<void>;
  /** Removes local data of layers that nobody holds. Gives the bytes freed. */
  collect(): Promise<number>;
  /** Ends. With `unmount` false (default) mounts stay for the next process where the driver can hand them over. Idempotent. */
  close(options?: { readonly unmount?: boolean | undefined }): Promise<void>;
}

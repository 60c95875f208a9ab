import { type Descriptor, type Digest, EstargzError, isDigest, isEstargzError, type ReaderAt } from "@estargz/interface";
import { type BlobContent, digestOf, iterate, verified, verifyBytes } from "./blob-content.ts";
import type {
  ImageStore,
  PushBlobOptions,
  PushManifestOptions,
  PushOutcome,
  ResolvedImage,
  ResolveOptions,
  StoreOptions,
} from "./image-store.ts";
import {
  type FetchedManifest,
  type ImageConfig,
  type ImageManifest,
  MAX_CONFIG_BYTES,
  MAX_MANIFEST_BYTES,
  parseConfig,
  parseDescriptor,
  parseManifest,
} from "./manifest.ts";
import { OCI_INDEX } from "./media-types.ts";
import { ArchiveFiles } from "./oci-archive.ts";
import { blobPath, DirectoryFiles, type LayoutFiles } from "./oci-directory.ts";
import { resolveImage } from "./resolve-image.ts";

/** Annotation that holds the tag of a manifest in index.json (image-spec, annotations.md). */
const REF_NAME = "org.opencontainers.image.ref.name";
/** What containerd and buildx write besides: the full reference. */
const CONTAINERD_NAME = "io.containerd.image.name";
const MAX_SMALL_BLOB_BYTES = 16 * 1024 * 1024;
const MAX_INDEX_BYTES = 16 * 1024 * 1024;

/** Options of {@link openOciLayout}. */
export interface OciLayoutOptions {
  /** Tag (`org.opencontainers.image.ref.name`) or digest. Default: the only image of the layout. */
  readonly tag?: string | undefined;
  /** The path is a tar archive. Default false. */
  readonly archive?: boolean | undefined;
}

interface LayoutIndex {
  readonly manifests: readonly Descriptor[];
  /** The document as it is, for what we do not know of. */
  readonly document: Readonly<Record<string, unknown>>;
}

/** An image store over the files of an OCI layout, wherever they are. */
export class OciLayout implements ImageStore {
  readonly kind: "oci-layout" | "oci-archive" | "http-directory";
  readonly reference: string;
  readonly #files: LayoutFiles;
  readonly #path: string;
  readonly #tag: string | undefined;

  constructor(kind: OciLayout["kind"], files: LayoutFiles, path: string, tag: string | undefined) {
    this.kind = kind;
    this.#files = files;
    this.#path = path;
    this.#tag = tag;
    const prefix = kind === "oci-layout" ? "oci:" : kind === "oci-archive" ? "oci-archive:" : "";
    this.reference = `${prefix}${path}${tag === undefined ? "" : isDigest(tag) ? `@${tag}` : `:${tag}`}`;
  }

  async #index(): Promise<LayoutIndex> {
    const bytes = await this.#files.read("index.json", MAX_INDEX_BYTES);
    let document: unknown;
    try {
      document = JSON.parse(Buffer.from(bytes).toString("utf8"));
    } catch (cause) {
      throw new EstargzError("INVALID_RESPONSE", `index.json of ${this.#path} is not JSON`, { cause });
    }
    const manifests = (document as { manifests?: unknown } | null)?.manifests;
    if (!Array.isArray(manifests)) throw new EstargzError("INVALID_RESPONSE", `index.json of ${this.#path} has no manifests`);
    const parsed = manifests.map((value) => parseDescriptor(value, `index.json of ${this.#path}`));
    return { manifests: parsed, document: document as Record<string, unknown> };
  }

  async #find(tag: string | undefined): Promise<Descriptor> {
    const { manifests } = await this.#index();
    if (tag === undefined) {
      const [only, ...others] = manifests;
      if (only !== undefined && others.length === 0) return only;
      const names = manifests.map(({ annotations }) => annotations?.[REF_NAME]).filter((name) => name !== undefined);
      throw new EstargzError(
        "NOT_FOUND",
        `${this.#path} holds ${manifests.length} images: name one (${names.slice(0, 20).join(", ") || "by digest"})`,
      );
    }
    const found =
      manifests.find(({ digest }) => digest === tag) ??
      manifests.find(({ annotations }) => annotations?.[REF_NAME] === tag) ??
      manifests.find(
        ({ annotations }) => annotations?.[CONTAINERD_NAME]?.endsWith(`:${tag}`) === true || annotations?.[CONTAINERD_NAME] === tag,
      );
    if (found !== undefined) return found;
    throw new EstargzError("NOT_FOUND", `${this.#path} has no image ${tag}`);
  }

  async fetchManifest(target?: string | Descriptor, options: StoreOptions = {}): Promise<FetchedManifest> {
    options.signal?.throwIfAborted();
    const descriptor =
      typeof target === "object"
        ? target
        : isDigest(target)
          ? undefined
          : await this.#find(target ?? this.#tag).catch(this.#byDigest(target));
    const digest = descriptor?.digest ?? (target as Digest);
    const bytes = await this.#files.read(blobPath(digest), MAX_MANIFEST_BYTES);
    verifyBytes(bytes, digest, `manifest ${digest} in ${this.#path}`);
    return parseManifest(bytes, digest, descriptor?.mediaType);
  }

  /** A digest need not stand in index.json itself: it may be in an index that does. */
  #byDigest(target: string | undefined): (error: unknown) => undefined | Descriptor {
    return (error) => {
      const wanted = target ?? this.#tag;
      if (isDigest(wanted) && isEstargzError(error, "NOT_FOUND")) return { mediaType: "", digest: wanted, size: -1 };
      throw error;
    };
  }

  async resolve(options: ResolveOptions = {}): Promise<ResolvedImage> {
    const root = await this.fetchManifest(undefined, options);
    return resolveImage(root, options.platform, (descriptor) => this.fetchManifest(descriptor, options));
  }

  async fetchConfig(manifest: ImageManifest, options: StoreOptions = {}): Promise<ImageConfig> {
    const bytes = await this.fetchBlob(manifest.config, { ...options, maxBytes: MAX_CONFIG_BYTES });
    return parseConfig(bytes, manifest.config.digest);
  }

  async fetchBlob(descriptor: Descriptor, options: StoreOptions & { readonly maxBytes?: number | undefined } = {}): Promise<Uint8Array> {
    options.signal?.throwIfAborted();
    const bytes = await this.#files.read(blobPath(descriptor.digest), options.maxBytes ?? MAX_SMALL_BLOB_BYTES);
    verifyBytes(bytes, descriptor.digest, `blob ${descriptor.digest} in ${this.#path}`);
    return bytes;
  }

  openBlob(descriptor: Descriptor): ReaderAt {
    return this.#files.reader(blobPath(descriptor.digest), descriptor.size >= 0 ? descriptor.size : undefined);
  }

  async *streamBlob(descriptor: Descriptor, options: StoreOptions = {}): AsyncGenerator<Uint8Array, void, void> {
    const reader = this.openBlob(descriptor);
    try {
      const { size } = await reader.readTail(0, options);
      yield* verified(stream(reader, size, options), descriptor);
    } finally {
      await reader.close?.();
    }
  }

  async hasBlob(descriptor: Descriptor): Promise<boolean> {
    return this.#files.has(blobPath(descriptor.digest));
  }

  async pushBlob(descriptor: Descriptor, content: BlobContent, options: PushBlobOptions = {}): Promise<PushOutcome> {
    if (await this.hasBlob(descriptor)) return "exists";
    await this.#files.store(blobPath(descriptor.digest), verified(iterate(content), descriptor), options.signal);
    return "uploaded";
  }

  async pushManifest(bytes: Uint8Array, options: PushManifestOptions): Promise<Descriptor> {
    const { mediaType } = options;
    const descriptor: Descriptor = { mediaType, digest: digestOf(bytes), size: bytes.length };
    parseManifest(bytes, descriptor.digest, mediaType);
    await this.pushBlob(descriptor, bytes, options);
    const tag = options.untagged === true ? undefined : (options.tag ?? (isDigest(this.#tag) ? undefined : this.#tag));
    if (options.untagged === true) return descriptor;
    await this.#files.alone(() => this.#addToIndex(descriptor, tag));
    return descriptor;
  }

  async #addToIndex(descriptor: Descriptor, tag: string | undefined): Promise<void> {
    const empty: LayoutIndex = { manifests: [], document: { schemaVersion: 2, mediaType: OCI_INDEX } };
    const { manifests, document } = await this.#index().catch((error: unknown) => {
      if (isEstargzError(error, "NOT_FOUND")) return empty;
      throw error;
    });
    const others = manifests.filter(({ digest, annotations }) =>
      tag === undefined ? digest !== descriptor.digest : annotations?.[REF_NAME] !== tag,
    );
    const entry = tag === undefined ? descriptor : { ...descriptor, annotations: { [REF_NAME]: tag } };
    await this.#files.replace("oci-layout", Buffer.from('{"imageLayoutVersion":"1.0.0"}'));
    await this.#files.replace("index.json", Buffer.from(JSON.stringify({ ...document, manifests: [...others, entry] })));
  }

  async listTags(): Promise<readonly string[]> {
    const { manifests } = await this.#index();
    return [...new Set(manifests.map(({ annotations }) => annotations?.[REF_NAME]).filter((name) => name !== undefined))];
  }

  async referrers(
    digest: Digest,
    options: StoreOptions & { readonly artifactType?: string | undefined } = {},
  ): Promise<readonly Descriptor[]> {
    const { manifests } = await this.#index();
    const found: Descriptor[] = [];
    for (const descriptor of manifests) {
      const fetched = await this.fetchManifest(descriptor, options);
      const document = fetched.kind === "index" ? fetched.index : fetched.manifest;
      if (document.subject?.digest !== digest) continue;
      const artifactType = document.artifactType ?? (fetched.kind === "manifest" ? fetched.manifest.config.mediaType : undefined);
      if (options.artifactType !== undefined && options.artifactType !== artifactType) continue;
      found.push({ ...fetched.descriptor, artifactType, annotations: document.annotations });
    }
    return found;
  }

  close(): Promise<void> {
    return this.#files.close();
  }
}

const PIECE_BYTES = 1024 * 1024;

/** A whole blob through a reader, in pieces. */
async function* stream(reader: ReaderAt, size: number, options: StoreOptions): AsyncGenerator<Uint8Array, void, void> {
  for (let at = 0; at < size; at += PIECE_BYTES) yield await reader.readAt(at, Math.min(PIECE_BYTES, size - at), options);
}

/**
 * Opens an OCI layout (image-spec, image-layout.md): a folder, local or shared over NFS, that is made at the first
 * push, or a tar archive, which is read in place and cannot be written. No I/O happens before the first use.
 */
export function openOciLayout(path: string, options: OciLayoutOptions = {}): ImageStore {
  if (path === "") throw new EstargzError("INVALID_REFERENCE", "the path of an OCI layout is empty");
  const { tag, archive = false } = options;
  if (archive) return new OciLayout("oci-archive", new ArchiveFiles(path), path, tag);
  return new OciLayout("oci-layout", new DirectoryFiles(path), path, tag);
}

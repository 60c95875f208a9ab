import {
  type Clock,
  type Descriptor,
  type Digest,
  EstargzError,
  isDigest,
  type Keychain,
  type Logger,
  type Metrics,
  noLogger,
  noMetrics,
  parseDigest,
  type ReaderAt,
  systemClock,
} from "@estargz/interface";
import { type BlobContent, digestOf, verified, verifyBytes } from "./blob-content.ts";
import { BlobFetcher, BlobNetwork } from "./blob-fetcher.ts";
import { ContentDiscovery, referrersTag } from "./content-discovery.ts";
import { withDeadline } from "./deadlines.ts";
import { directHosts, type HostResolver, type RegistryHost } from "./hosts/host.ts";
import { collect, headerOf } from "./http/exchange.ts";
import { type ProxySettings, proxyFromEnvironment } from "./http/proxy.ts";
import { type RetryOptions, retryPolicy } from "./http/retry.ts";
import { Transport } from "./http/transport.ts";
import { HttpFiles, parseDirectoryUrl } from "./http-directory.ts";
import type {
  ImageStore,
  PushBlobOptions,
  PushManifestOptions,
  PushOutcome,
  ResolvedImage,
  ResolveOptions,
  StoreOptions,
} from "./image-store.ts";
import { anonymousKeychain } from "./keychain/static.ts";
import {
  type FetchedManifest,
  type ImageConfig,
  type ImageManifest,
  MAX_CONFIG_BYTES,
  MAX_MANIFEST_BYTES,
  parseConfig,
  parseManifest,
} from "./manifest.ts";
import { MANIFEST_ACCEPT, OCI_INDEX } from "./media-types.ts";
import { OciLayout } from "./oci-layout.ts";
import { Pusher } from "./push.ts";
import type { PlanOptions } from "./range-planner.ts";
import { formatReference, parseReference, type Reference } from "./reference.ts";
import { RegistryApi } from "./registry-api.ts";
import { RemoteBlob } from "./remote-blob.ts";
import { resolveImage } from "./resolve-image.ts";

/** Deadlines, in milliseconds. */
export interface TimeoutOptions {
  /** For a connection. Default 10,000. */
  readonly connectMs?: number | undefined;
  /** For the head of an answer. Default 30,000. */
  readonly headersMs?: number | undefined;
  /** Between two pieces of a body. Default 30,000. */
  readonly idleBodyMs?: number | undefined;
  /** For an operation as a whole, with its repetitions. Default 120,000. Streams and pushes have none. */
  readonly operationMs?: number | undefined;
}

/** Options of {@link createRegistryClient}. */
export interface RegistryClientOptions {
  /** Where credentials come from. Default: anonymous. */
  readonly keychain?: Keychain | undefined;
  /** Which servers stand for a host. Default: each host itself. */
  readonly hosts?: HostResolver | undefined;
  /** Token services (host, or origin) besides the registry's own domain that credentials may go to. Default none. */
  readonly trustedRealms?: readonly string[] | undefined;
  readonly timeouts?: TimeoutOptions | undefined;
  readonly retry?: RetryOptions | undefined;
  /** Requests in flight to one server; halved by each 429, grown back by good answers. Default 32. */
  readonly maxConcurrencyPerHost?: number | undefined;
  /** Redirects of one request. Default 5. */
  readonly maxRedirects?: number | undefined;
  /** How ranges of one read are joined. */
  readonly plan?: PlanOptions | undefined;
  /** Most bytes read and thrown away for one read when a server ignores ranges. Default 256 MiB. */
  readonly maxSkipBytes?: number | undefined;
  /** Most bytes of one `readAt`. Default 1 GiB. */
  readonly maxReadBytes?: number | undefined;
  /** A read's deadline grows by the time its bytes take at this rate. Default 64 KiB/s. */
  readonly minBytesPerSecond?: number | undefined;
  /** Proxies; `"environment"` (default) reads the usual variables, `"none"` uses none. */
  readonly proxy?: ProxySettings | "environment" | "none" | undefined;
  /** HTTP/2 with servers that offer it. Default true. */
  readonly allowHttp2?: boolean | undefined;
  /** Default `estargz`. */
  readonly userAgent?: string | undefined;
  readonly logger?: Logger | undefined;
  readonly metrics?: Metrics | undefined;
  readonly clock?: Clock | undefined;
  /** Source of jitter, in [0, 1). */
  readonly random?: (() => number) | undefined;
}

/** A registry client: connections, tokens and redirects are shared by all that is done with it, and by nothing else. */
export interface RegistryClient extends AsyncDisposable {
  /** The images of one repository; a reference as in `docker pull`. */
  repository(reference: string): RegistryRepository;
  /** An OCI layout on a web server, a CDN or an air-gapped share: read only. `url` names the folder with its index.json. */
  httpDirectory(url: string, options?: { readonly tag?: string | undefined }): ImageStore;
  /** {@link ImageStore.resolve} of a reference. */
  resolve(reference: string, options?: ResolveOptions): Promise<ResolvedImage>;
  /** {@link ImageStore.fetchManifest} of a reference. */
  fetchManifest(reference: string, options?: StoreOptions): Promise<FetchedManifest>;
  /** {@link ImageStore.openBlob} of a reference's repository; also for a `LayerLocation`. */
  openBlob(location: { readonly reference: string; readonly descriptor: Descriptor }): ReaderAt;
  /** Closes all connections. Reads in flight fail with `CLOSED`. Idempotent. */
  close(): Promise<void>;
}

/** A repository in a registry. */
export interface RegistryRepository extends ImageStore {
  readonly kind: "registry";
  /** Deletes a manifest by digest, or a tag. @throws `UNSUPPORTED` where the registry does not allow it. */
  deleteManifest(target: string, options?: StoreOptions): Promise<void>;
  /** Deletes a blob. @throws `UNSUPPORTED` where the registry does not allow it. */
  deleteBlob(digest: Digest, options?: StoreOptions): Promise<void>;
}

const MAX_SMALL_BLOB_BYTES = 16 * 1024 * 1024;

function positive(name: string, value: number | undefined, fallback: number): number {
  const number = value ?? fallback;
  if (!(number > 0)) throw new EstargzError("INVALID_ARGUMENT", `${name} is ${number}; it must be above 0`);
  return number;
}

class Repository implements RegistryRepository {
  readonly kind = "registry";
  readonly reference: string;
  readonly #parsed: Reference;
  readonly #core: ClientCore;
  readonly #pusher: Pusher;
  readonly #discovery: ContentDiscovery;

  constructor(core: ClientCore, parsed: Reference) {
    this.#core = core;
    this.#parsed = parsed;
    this.reference = formatReference(parsed);
    this.#pusher = new Pusher(core.api, parsed);
    this.#discovery = new ContentDiscovery(core.api, parsed);
  }

  #deadline<T>(signal: AbortSignal | undefined, what: string, task: (signal: AbortSignal) => Promise<T>): Promise<T> {
    return withDeadline({ deadlines: this.#core.api.deadlines, ms: this.#core.operationMs, signal, what }, task);
  }

  async resolve(options: ResolveOptions = {}): Promise<ResolvedImage> {
    const root = await this.fetchManifest(undefined, options);
    return resolveImage(root, options.platform, (descriptor) => this.fetchManifest(descriptor, options));
  }

  fetchManifest(target?: string | Descriptor, options: StoreOptions = {}): Promise<FetchedManifest> {
    const { api } = this.#core;
    const { repository, tag } = this.#parsed;
    const expected =
      target === undefined ? this.#parsed.digest : typeof target !== "string" ? target.digest : isDigest(target) ? target : undefined;
    const name = expected ?? (typeof target === "string" ? parseReference(`${this.#parsed.host}/${repository}:${target}`).tag : tag);
    const what = `manifest ${name} of ${this.#parsed.host}/${repository}`;
    return this.#deadline(options.signal, what, (signal) =>
      api.acrossHosts(this.#parsed, expected === undefined ? "resolve" : "pull", { signal, what }, async (host) => {
        const tooLarge = (): Error => new EstargzError("LIMIT_EXCEEDED", `${what} is larger than ${MAX_MANIFEST_BYTES} bytes`);
        const outcome = await api.request(
          host,
          {
            method: "GET",
            reference: this.#parsed,
            path: `/${repository}/manifests/${name}`,
            headers: { accept: MANIFEST_ACCEPT },
            actions: "pull",
            signal,
            what,
          },
          ({ status }) => (status === 200 ? collect(MAX_MANIFEST_BYTES, tooLarge) : undefined),
        );
        if (!outcome.accepted) throw api.error(outcome, what);
        const bytes = new Uint8Array(outcome.value);
        const told = headerOf(outcome.head, "docker-content-digest");
        const digest = expected ?? (isDigest(told) ? told : digestOf(bytes));
        verifyBytes(bytes, digest, `${what} from ${outcome.url.host}`);
        const mediaType = headerOf(outcome.head, "content-type")?.split(";")[0]?.trim().toLowerCase();
        return parseManifest(bytes, digest, mediaType);
      }),
    );
  }

  async fetchConfig(manifest: ImageManifest, options: StoreOptions = {}): Promise<ImageConfig> {
    const bytes = await this.fetchBlob(manifest.config, { ...options, maxBytes: MAX_CONFIG_BYTES });
    return parseConfig(bytes, manifest.config.digest);
  }

  async fetchBlob(descriptor: Descriptor, options: StoreOptions & { readonly maxBytes?: number | undefined } = {}): Promise<Uint8Array> {
    const { maxBytes = MAX_SMALL_BLOB_BYTES, signal } = options;
    if (descriptor.size > maxBytes) {
      throw new EstargzError(
        "LIMIT_EXCEEDED",
        `blob ${descriptor.digest} has ${descriptor.size} bytes, more than the ${maxBytes} allowed here`,
      );
    }
    const blob = this.openBlob(descriptor);
    const { bytes, size } = await blob.readTail(Math.max(0, descriptor.size >= 0 ? descriptor.size : maxBytes), { signal });
    if (size > maxBytes)
      throw new EstargzError("LIMIT_EXCEEDED", `blob ${descriptor.digest} has ${size} bytes, more than the ${maxBytes} allowed here`);
    verifyBytes(bytes, descriptor.digest, `blob ${descriptor.digest}`);
    return bytes;
  }

  openBlob(descriptor: Descriptor): RemoteBlob {
    parseDigest(descriptor.digest);
    return new RemoteBlob(new BlobFetcher(this.#core.network, this.#parsed, descriptor), this.#core.readSettings);
  }

  async *streamBlob(descriptor: Descriptor, options: StoreOptions = {}): AsyncGenerator<Uint8Array, void, void> {
    const blob = this.openBlob(descriptor);
    const size = descriptor.size >= 0 ? descriptor.size : (await blob.readTail(0, options)).size;
    yield* verified(blob.stream(0, size, options), { ...descriptor, size });
  }

  hasBlob(descriptor: Descriptor, options: StoreOptions = {}): Promise<boolean> {
    return this.#deadline(options.signal, "a look for a blob", (signal) => this.#pusher.hasBlob(descriptor, signal));
  }

  pushBlob(descriptor: Descriptor, content: BlobContent, options: PushBlobOptions = {}): Promise<PushOutcome> {
    return this.#pusher.pushBlob(descriptor, content, options);
  }

  async pushManifest(bytes: Uint8Array, options: PushManifestOptions): Promise<Descriptor> {
    const { descriptor, subject } = await this.#pusher.pushManifest(bytes, options);
    const parsed = parseManifest(bytes, descriptor.digest, options.mediaType);
    const document = parsed.kind === "index" ? parsed.index : parsed.manifest;
    // A registry that knows referrers says so (distribution-spec, "Pushing Manifests with Subject").
    if (document.subject !== undefined && subject === undefined) {
      const artifactType = document.artifactType ?? (parsed.kind === "manifest" ? parsed.manifest.config.mediaType : undefined);
      await this.#tagReferrer(document.subject.digest, { ...descriptor, artifactType, annotations: document.annotations }, options);
    }
    return descriptor;
  }

  /** Adds a manifest to the index behind the tag that stands for the referrers API. */
  async #tagReferrer(subject: Digest, descriptor: Descriptor, options: StoreOptions): Promise<void> {
    const known = await this.#discovery.referrers(subject, undefined, options.signal);
    if (known.some(({ digest }) => digest === descriptor.digest)) return;
    const index = { schemaVersion: 2, mediaType: OCI_INDEX, manifests: [...known, descriptor] };
    await this.#pusher.pushManifest(Buffer.from(JSON.stringify(index)), {
      ...options,
      mediaType: OCI_INDEX,
      tag: referrersTag(subject),
      untagged: false,
    });
  }

  listTags(options: StoreOptions = {}): Promise<readonly string[]> {
    return this.#deadline(options.signal, "a list of tags", (signal) => this.#discovery.listTags(signal));
  }

  referrers(digest: Digest, options: StoreOptions & { readonly artifactType?: string | undefined } = {}): Promise<readonly Descriptor[]> {
    return this.#deadline(options.signal, "a list of referrers", (signal) =>
      this.#discovery.referrers(parseDigest(digest), options.artifactType, signal),
    );
  }

  deleteManifest(target: string, options: StoreOptions = {}): Promise<void> {
    const name = isDigest(target) ? target : parseReference(`${this.#parsed.host}/${this.#parsed.repository}:${target}`).tag;
    return this.#pusher.remove("manifests", name ?? target, options.signal);
  }

  deleteBlob(digest: Digest, options: StoreOptions = {}): Promise<void> {
    return this.#pusher.remove("blobs", parseDigest(digest), options.signal);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

interface ClientCore {
  readonly api: RegistryApi;
  /** An API that knows one server only, over the same connections. */
  readonly single: (host: RegistryHost) => RegistryApi;
  readonly network: BlobNetwork;
  readonly operationMs: number;
  readonly readSettings: ConstructorParameters<typeof RemoteBlob>[1];
}

function createCore(options: RegistryClientOptions): ClientCore {
  const { timeouts = {}, clock = systemClock, logger = noLogger, metrics = noMetrics, proxy = "environment" } = options;
  const transport = new Transport({
    timeouts: {
      connectMs: positive("timeouts.connectMs", timeouts.connectMs, 10_000),
      headersMs: positive("timeouts.headersMs", timeouts.headersMs, 30_000),
      idleBodyMs: positive("timeouts.idleBodyMs", timeouts.idleBodyMs, 30_000),
    },
    maxConcurrencyPerHost: positive("maxConcurrencyPerHost", options.maxConcurrencyPerHost, 32),
    userAgent: options.userAgent ?? "estargz",
    proxy: proxy === "environment" ? proxyFromEnvironment() : proxy === "none" ? {} : proxy,
    allowHttp2: options.allowHttp2 ?? true,
    clock,
    logger,
    metrics,
  });
  const apiOptions = {
    transport,
    hosts: options.hosts ?? directHosts(),
    keychain: options.keychain ?? anonymousKeychain,
    trustedRealms: options.trustedRealms ?? [],
    maxRedirects: options.maxRedirects ?? 5,
    retry: retryPolicy(options.retry),
    random: options.random ?? Math.random,
    clock,
    logger,
  };
  const api = new RegistryApi(apiOptions);
  const operationMs = positive("timeouts.operationMs", timeouts.operationMs, 120_000);
  return {
    api,
    single: (host) => new RegistryApi({ ...apiOptions, hosts: { hosts: () => Promise.resolve([host]) } }),
    network: new BlobNetwork(api, options.maxSkipBytes ?? 256 * 1024 * 1024),
    operationMs,
    readSettings: {
      plan: options.plan ?? {},
      deadlineMs: operationMs,
      minBytesPerSecond: positive("minBytesPerSecond", options.minBytesPerSecond, 64 * 1024),
      maxReadBytes: positive("maxReadBytes", options.maxReadBytes, 1024 ** 3),
      minSeveral: 3,
    },
  };
}

/**
 * Creates a client. It opens no connection before something is read.
 *
 * @throws `INVALID_ARGUMENT` for options out of bounds.
 */
export function createRegistryClient(options: RegistryClientOptions = {}): RegistryClient {
  const core = createCore(options);
  const repository = (reference: string): RegistryRepository => new Repository(core, parseReference(reference));
  const close = (): Promise<void> => core.api.transport.close();
  return {
    repository,
    httpDirectory: (url, { tag } = {}) => {
      const parsed = parseDirectoryUrl(url);
      const files = new HttpFiles(parsed, core.single, core.network.maxSkipBytes, core.readSettings);
      return new OciLayout("http-directory", files, parsed.href, tag);
    },
    resolve: (reference, resolveOptions) => repository(reference).resolve(resolveOptions),
    fetchManifest: (reference, storeOptions) => repository(reference).fetchManifest(undefined, storeOptions),
    openBlob: ({ reference, descriptor }) => repository(reference).openBlob(descriptor),
    close,
    [Symbol.asyncDispose]: close,
  };
}

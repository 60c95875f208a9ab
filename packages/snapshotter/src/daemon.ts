import { mkdir } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import type { ConnectRouter } from "@connectrpc/connect";
import { openLayer } from "@estargz/format";
import { createLayerFileSystem, type LayerFileSystemOptions, type LocalLayerFileSystem } from "@estargz/fs";
import type { LayerLocation, Logger } from "@estargz/interface";
import { EstargzError, noLogger } from "@estargz/interface";
import { createRegistryClient, fetchExternalToc, type RegistryClient } from "@estargz/registry";
import type { Tracer } from "@opentelemetry/api";
import { type AccessRecord, recordAccess } from "./access-record.ts";
import { type AdminServer, serveAdmin } from "./admin-server.ts";
import { parseConfig } from "./config.ts";
import type { SnapshotterConfig } from "./config-types.ts";
import { configuredHosts } from "./configured-hosts.ts";
import { type GrpcServer, serveGrpc } from "./grpc-server.ts";
import { configuredKeychain } from "./keychain/configured-keychain.ts";
import { type CriKeychain, createCriKeychain } from "./keychain/cri-keychain.ts";
import { type ImageServiceProxy, imageServiceProxy } from "./keychain/image-service-proxy.ts";
import { createOverlaySnapshotter, type OverlaySnapshotter } from "./overlay-snapshotter.ts";
import { createPrometheusMetrics, type PrometheusMetrics } from "./prometheus.ts";
import { rehearse } from "./rehearsal.ts";
import { snapshotsRoutes } from "./service.ts";
import { registerMetrics } from "./snapshotter-metrics.ts";
import { SnapshotterTracing } from "./tracing.ts";

/** Options of {@link startSnapshotter}. */
export interface StartSnapshotterOptions {
  /** Path of the unix socket to serve. */
  readonly address: string;
  /** Absolute path of the folder for everything that is kept. */
  readonly root: string;
  /** Default: every default, see {@link defaultConfigToml}. */
  readonly config?: SnapshotterConfig | undefined;
  readonly logger?: Logger | undefined;
  /** Makes spans of Prepare up to the first byte. Default: the provider that is registered with `@opentelemetry/api`, if any. */
  readonly tracer?: Tracer | undefined;
}

/** A running snapshotter. */
export interface SnapshotterDaemon extends AsyncDisposable {
  readonly address: string;
  /** `HOST:PORT` of `/metrics` and `/healthz`, when the configuration asks for them. */
  readonly metricsAddress: string | undefined;
  readonly snapshotter: OverlaySnapshotter;
  /** Resolves when the layers of a former run are shown again, or have failed to be. Nothing has to wait for it. */
  readonly restored: Promise<void>;
  /**
   * Resolves when the daemon can't go on: a thread that serves the file system has ended. `/healthz` answers 503 from then on, and
   * no layer can be shown any more. Close, end the process and start it again: users of the mounts wait meanwhile. Never rejects.
   */
  readonly failed: Promise<Error>;
  /**
   * Ends: no more calls, then no more layers. Mounts stay for the next process unless `unmount` (default: the configuration's
   * `unmount_on_exit`). Idempotent.
   */
  close(options?: { readonly unmount?: boolean | undefined }): Promise<void>;
}

function fileSystemOptions(
  options: StartSnapshotterOptions,
  config: SnapshotterConfig,
  onFailure: (error: Error) => void,
): Omit<LayerFileSystemOptions, "source"> {
  const background = config.no_background_fetch ? "off" : config.fill.background;
  const { driver, keeper, passthrough, real_time } = config.fuse;
  return {
    root: join(options.root, "layers"),
    // Short: an overlay's option string names it once a layer.
    mountRoot: join(options.root, "m"),
    background,
    sourceTimeoutMs: config.blob.fetching_timeout_sec * 1000,
    logger: options.logger,
    devFuse: {
      passthrough: passthrough ? "auto" : "off",
      ...(keeper ? {} : { keeper: false }),
      ...(real_time ? {} : { realTime: false }),
      onFailure,
    },
    ...(driver === "auto" ? {} : { driver }),
    ...(config.cache.max_bytes === 0 ? {} : { maxBytes: config.cache.max_bytes }),
  };
}

/** The TOC of a layer that is stored in an image of its own. */
function externalToc(client: RegistryClient, { reference, descriptor }: LayerLocation): Promise<Uint8Array> {
  return fetchExternalToc(client.repository(reference), descriptor.digest);
}

/** The registries as a source, with a record of which repository has which layer. */
function accessOf(client: RegistryClient): AccessRecord {
  const source = { open: (location: LayerLocation) => client.openBlob(location) };
  return recordAccess(source, {
    verify: (blob, location, tocDigest, signal) => {
      const { annotations } = location.descriptor;
      return openLayer(blob, { tocDigest, annotations, externalToc: () => externalToc(client, location), signal });
    },
  });
}

/** Everything that was started, so that all of it can be ended, also after a start that failed half-way. */
class Daemon implements SnapshotterDaemon {
  readonly address: string;
  readonly #config: SnapshotterConfig;
  #client: RegistryClient | undefined;
  #layers: LocalLayerFileSystem | undefined;
  #snapshotter: OverlaySnapshotter | undefined;
  #server: GrpcServer | undefined;
  #proxy: ImageServiceProxy | undefined;
  #proxyServer: GrpcServer | undefined;
  #admin: AdminServer | undefined;
  #closing: Promise<void> | undefined;
  readonly #ending = new AbortController();
  #rehearsal: Promise<void> = Promise.resolve();
  #failure: Error | undefined;
  #fail: (error: Error) => void = () => {};
  readonly failed: Promise<Error> = new Promise((resolve) => {
    this.#fail = resolve;
  });
  restored: Promise<void> = Promise.resolve();

  constructor(address: string, config: SnapshotterConfig) {
    this.address = address;
    this.#config = config;
  }

  get snapshotter(): OverlaySnapshotter {
    if (this.#snapshotter === undefined) throw new EstargzError("CLOSED", "the snapshotter has not been started");
    return this.#snapshotter;
  }

  get metricsAddress(): string | undefined {
    return this.#admin?.address;
  }

  async start(options: StartSnapshotterOptions): Promise<void> {
    const config = this.#config;
    const logger = options.logger ?? noLogger;
    const metrics = createPrometheusMetrics();
    await mkdir(options.root, { recursive: true, mode: 0o711 });
    const { enable_keychain: useCri, state_path: statePath } = config.cri_keychain;
    const cri = useCri ? createCriKeychain({ statePath, logger }) : undefined;
    this.#client = createRegistryClient({
      keychain: configuredKeychain(config, cri, logger),
      hosts: configuredHosts(config),
      trustedRealms: config.resolver.trusted_realms,
      timeouts: { headersMs: config.resolver.request_timeout_sec * 1000 },
      userAgent: "estargz-snapshotter",
      logger,
      metrics,
    });
    const client = this.#client;
    const access = accessOf(client);
    const tracing = new SnapshotterTracing(options.tracer);
    const layers = await createLayerFileSystem({
      ...fileSystemOptions(options, config, (error) => this.#onFailure(error, logger)),
      source: tracing.traced(access.source),
      externalToc: (location) => externalToc(client, location),
      metrics,
    });
    this.#layers = layers;
    this.#snapshotter = createOverlaySnapshotter({
      root: join(options.root, "snapshotter"),
      layers,
      access,
      tracing,
      policy: {
        attachTimeoutMs: config.snapshotter.attach_timeout_sec * 1000,
        allowNoVerification: config.allow_no_verification,
        disableVerification: config.disable_verification,
        prefetchBytes: config.noprefetch ? 0 : config.prefetch_size,
      },
      upperDirectoryLabel: config.snapshotter.upperdir_label,
      remapIds: config.snapshotter.remap_ids,
      fastAbsentXattrs: config.snapshotter.fast_absent_xattrs,
      mountOptions: config.snapshotter.mount_options,
      logger,
      metrics,
    });
    this.restored = this.#snapshotter.restore();
    await this.#serve(metrics, cri, logger);
    this.#rehearsal = rehearse(join(options.root, "rehearsal"), this.#ending.signal).catch((error: unknown) => {
      logger.warn({ err: error }, "the rehearsal failed: the first image takes a little longer");
    });
  }

  #onFailure(error: Error, logger: Logger): void {
    logger.error({ err: error }, "a thread of the file system ended: no layer can be shown until the snapshotter is started again");
    this.#failure ??= error;
    this.#fail(error);
  }

  async #serve(metrics: PrometheusMetrics, cri: CriKeychain | undefined, logger: Logger): Promise<void> {
    const config = this.#config;
    const { snapshotter } = this;
    const registered = registerMetrics(metrics);
    const routes: ((router: ConnectRouter) => void)[] = [snapshotsRoutes(snapshotter, { logger, metrics: registered })];
    const { image_service_path: target, listen_path: listenPath } = config.cri_keychain;
    if (cri !== undefined) {
      this.#proxy = imageServiceProxy({ target, keychain: cri });
      if (listenPath === "") routes.push(this.#proxy.routes);
      else this.#proxyServer = await serveGrpc(listenPath, this.#proxy.routes);
    }
    if (config.metrics_address !== "") {
      this.#admin = await serveAdmin({
        address: config.metrics_address,
        metrics: config.no_prometheus ? undefined : metrics,
        health: () => {
          const healthy = this.#server !== undefined && this.#closing === undefined && this.#failure === undefined;
          return { healthy, details: snapshotter.counts() };
        },
        beforeExpose: () => {
          for (const [kind, count] of Object.entries(snapshotter.counts())) registered.snapshots.set(count, { kind });
        },
      });
    }
    const all = (router: ConnectRouter): void => {
      for (const route of routes) route(router);
    };
    this.#server = await serveGrpc(this.address, all, { acceptInherited: true });
  }

  close(options: { readonly unmount?: boolean | undefined } = {}): Promise<void> {
    this.#closing ??= this.#close(options.unmount ?? this.#config.snapshotter.unmount_on_exit);
    return this.#closing;
  }

  async #close(unmount: boolean): Promise<void> {
    this.#ending.abort();
    await this.#rehearsal;
    await Promise.all([this.#server?.close(), this.#proxyServer?.close(), this.#admin?.close()]);
    this.#proxy?.close();
    await this.#snapshotter?.close();
    await this.#layers?.close({ unmount });
    await this.#client?.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/**
 * Starts a snapshotter for containerd: registry client with credentials and mirrors, layers as file systems, the snapshots
 * service on a unix socket, metrics.
 *
 * @throws `INVALID_CONFIG`, `IO_ERROR` when the socket or the root is used by another process, `MOUNT_FAILED`.
 */
export async function startSnapshotter(options: StartSnapshotterOptions): Promise<SnapshotterDaemon> {
  if (!isAbsolute(options.root) || /[:,\\]/.test(options.root)) {
    throw new EstargzError("INVALID_ARGUMENT", `root ${JSON.stringify(options.root)} must be an absolute path without ":", "," and "\\"`);
  }
  const daemon = new Daemon(options.address, options.config ?? parseConfig(""));
  try {
    await daemon.start(options);
  } catch (error) {
    await daemon.close({ unmount: false });
    throw error;
  }
  return daemon;
}

import { stat } from "node:fs/promises";
import { decodeFirstUse, FIRST_USE_ANNOTATION } from "@estargz/format";
import {
  type AttachedLayer,
  type AttachRequest,
  type Digest,
  EstargzError,
  type LayerCoverage,
  type LayerLocation,
  type Logger,
  noLogger,
} from "@estargz/interface";
import { attachedLayer, chunksOf, closeAll, digestOf, raceSignal, tocDigestOf } from "./attach-request.ts";
import { createDriver } from "./create-driver.ts";
import type { Driver } from "./driver.ts";
import { observeDriver } from "./driver-metrics.ts";
import { startDecoderPool } from "./fill/decoder-pool.ts";
import { createDigestTable, type DigestTable } from "./fill/digest-table.ts";
import { fillSettings } from "./fill/options.ts";
import { FillScheduler } from "./fill/scheduler.ts";
import type { HeldLayer } from "./held-layer.ts";
import { createLayerEvents, type LayerEvents } from "./layer-events.ts";
import type { LayerFileSystemOptions } from "./layer-file-system-options.ts";
import { LayerFinder } from "./layer-finder.ts";
import type { LayerFileSystemStatistics, LocalLayerFileSystem } from "./local-layer-file-system.ts";
import { type LayerOpener, startLayerOpener } from "./open/layer-opener.ts";
import { createDiskBudget, type DiskBudget } from "./store/disk-budget.ts";
import { type FileMarks, removeFolder } from "./store/layer-store.ts";
import { StoreDirectory } from "./store/store-directory.ts";

/**
 * Starts a file system of layers: takes over what an earlier process showed from the same `root`, without network, and
 * shows more at {@link LayerFileSystem.attach}.
 *
 * @throws `FAILED_PRECONDITION` when another process uses `root`, `INVALID_ARGUMENT`, and the driver's errors.
 */
export async function createLayerFileSystem(options: LayerFileSystemOptions): Promise<LocalLayerFileSystem> {
  const settings = fillSettings(options);
  const directory = await StoreDirectory.open(options.root);
  try {
    const driver = await createDriver(options, options.mountRoot ?? directory.mounts);
    const files = new LocalFiles(options, settings, directory, driver);
    try {
      await files.restore();
    } catch (error) {
      await files.close();
      throw error;
    }
    return files;
  } catch (error) {
    directory.close();
    throw error;
  }
}

class LocalFiles implements LocalLayerFileSystem {
  readonly driver: Driver;
  readonly #options: LayerFileSystemOptions;
  readonly #logger: Logger;
  readonly #directory: StoreDirectory;
  readonly #opener: LayerOpener;
  readonly #digests: DigestTable = createDigestTable();
  readonly #scheduler: FillScheduler;
  readonly #budget: DiskBudget;
  readonly #events: LayerEvents;
  readonly #finder: LayerFinder;
  /** Known layers by key. */
  readonly #layers: ReadonlyMap<string, HeldLayer>;
  readonly #owners = new Map<string, HeldLayer>();
  readonly #closing = new AbortController();
  #nextRank = 1;
  #closed: Promise<void> | undefined;

  constructor(options: LayerFileSystemOptions, settings: ReturnType<typeof fillSettings>, directory: StoreDirectory, driver: Driver) {
    this.#options = options;
    this.#logger = options.logger ?? noLogger;
    this.#directory = directory;
    this.driver = driver;
    observeDriver(driver, options.metrics);
    this.#opener = startLayerOpener({ idleMs: settings.threadIdleMs, limits: options.layerLimits });
    this.#events = createLayerEvents({
      listener: options.onEvent,
      intervalMs: options.coverageIntervalMs ?? 1000,
      layers: () => this.#layers.values(),
      logger: this.#logger,
    });
    this.#scheduler = new FillScheduler(
      {
        settings,
        logger: this.#logger,
        digests: this.#digests,
        reserve: (bytes, mayTake) => this.#budget.reserve(bytes, mayTake),
        metrics: options.metrics,
        onSourceState: (layer, reachable, code) => this.#events.onSourceState(layer.store.id, reachable, code),
        onStoreState: (usable, code, directory) => this.#events.onStoreState(usable, code, directory),
      },
      (onResults, onFailure, isBusy) =>
        startDecoderPool({
          threads: settings.decoderThreads,
          nice: settings.decoderNice,
          native: settings.libdeflate,
          idleMs: settings.threadIdleMs,
          isBusy,
          onResults,
          onFailure,
        }),
    );
    this.#finder = new LayerFinder({
      options,
      logger: this.#logger,
      directory,
      opener: this.#opener,
      digests: this.#digests,
      scheduler: this.#scheduler,
      closing: this.#closing.signal,
    });
    this.#layers = this.#finder.layers;
    this.#budget = createDiskBudget({
      maxBytes: options.maxBytes ?? Number.POSITIVE_INFINITY,
      logger: this.#logger,
      layers: () => this.#layers.values(),
      reservedBytes: () => this.#scheduler.reservedBytes,
      remove: (layer) => this.#remove(layer),
    });
  }

  /** Shows again what owners held in an earlier process; learns what else is local. */
  async restore(): Promise<void> {
    const keys = await this.#directory.keys();
    const records = await Promise.all(keys.map(async (key) => ({ key, record: await this.#directory.readRecord(key) })));
    for (const { key, record } of records) {
      if (record === undefined) continue;
      const owners = this.#options.restore === false ? [] : record.owners;
      if (owners.length === 0 && key.startsWith("unverified-")) {
        await removeFolder(this.#directory.directory(key));
        continue;
      }
      try {
        const layer = await this.#finder.openStored(key, record.layerDigest, record.locations, record.lastUsedMs);
        if (layer === undefined) {
          this.#logger.warn(
            { digest: record.layerDigest },
            "local data of a layer is damaged; it is opened again from its source when it is attached",
          );
          continue;
        }
        for (const owner of owners) {
          layer.owners.add(owner);
          this.#owners.set(owner, layer);
        }
        if (owners.length > 0) await this.#showIfHeld(layer, record.number);
        else layer.fill.attached = false;
      } catch (error) {
        this.#logger.error({ err: error, digest: record.layerDigest }, "a layer of an earlier process cannot be shown again");
      }
    }
    await this.driver.ready();
  }

  async attach(request: AttachRequest, options: { readonly signal?: AbortSignal | undefined } = {}): Promise<AttachedLayer> {
    const { signal } = options;
    signal?.throwIfAborted();
    this.#throwIfClosed();
    const layerDigest = digestOf(request.locations);
    const tocDigest = tocDigestOf(request);
    const held = this.#owners.get(request.owner);
    if (held !== undefined) {
      if (held.layerDigest === layerDigest && (tocDigest === undefined || held.tocDigest === tocDigest)) {
        if (held.addLocations(request.locations, this.#options.source)) this.#keepRecord(held);
        return attachedLayer(request.owner, held);
      }
      throw new EstargzError(
        "ALREADY_EXISTS",
        `owner ${request.owner} holds layer ${held.layerDigest}; detach it before attaching ${layerDigest}`,
      );
    }
    const layer = await this.#findHeld(request, layerDigest, tocDigest, signal);
    layer.owners.add(request.owner);
    this.#owners.set(request.owner, layer);
    layer.lastUsedMs = Date.now();
    try {
      layer.addLocations(request.locations, this.#options.source);
      await raceSignal(this.#showIfHeld(layer), signal);
      this.#order(layer, request);
    } catch (error) {
      await this.detach(request.owner);
      throw error;
    }
    this.#keepRecord(layer);
    return attachedLayer(request.owner, layer);
  }

  /** Finds a layer, again if it was given up for room in the meantime. */
  async #findHeld(
    request: AttachRequest,
    layerDigest: Digest,
    tocDigest: Digest | undefined,
    signal: AbortSignal | undefined,
  ): Promise<HeldLayer> {
    for (;;) {
      const layer = await raceSignal(this.#finder.find(request, layerDigest, tocDigest), signal);
      this.#throwIfClosed();
      if (this.#layers.get(layer.key) === layer) return layer;
    }
  }

  /** Shows a layer that somebody holds, hides one that nobody holds; one step at a time for each layer. */
  #showIfHeld(layer: HeldLayer, number?: number): Promise<void> {
    const step = layer.turn.then(async () => {
      if (layer.owners.size > 0 && layer.path === undefined) await this.#show(layer, number);
      else if (layer.owners.size === 0 && layer.number !== undefined) await this.#hide(layer);
    });
    layer.turn = step.catch(() => undefined);
    return step;
  }

  async #show(layer: HeldLayer, number: number | undefined): Promise<void> {
    layer.number = number ?? this.#directory.takeNumber();
    layer.path = await this.driver.attach(layer.driverLayer(layer.number));
    layer.exactPath = this.driver.exactPath(layer.number);
    layer.fill.attached = true;
    this.#scheduler.pump();
  }

  async #hide(layer: HeldLayer): Promise<void> {
    const { number } = layer;
    layer.number = undefined;
    layer.path = undefined;
    layer.exactPath = undefined;
    layer.fill.attached = false;
    if (number !== undefined) await this.driver.detach(number);
  }

  /** Says what of a layer is to be fetched first. */
  #order(layer: HeldLayer, { prefetchBytes = 0, locations }: AttachRequest): void {
    const { fill, layerDigest, tocDigest } = layer;
    const { index } = fill.store;
    fill.rank = this.#nextRank++;
    fill.prefetchEnd = index.prefetchEnd ?? Math.min(prefetchBytes, index.payloadEnd);
    const paths = this.#options.recordedOrder?.({ layerDigest, tocDigest });
    const recorded = paths === undefined ? this.#annotatedFirstUse(locations, index.chunkCount) : chunksOf(index, paths);
    if (recorded !== undefined) fill.recorded = recorded;
    this.#scheduler.pump();
  }

  /** What the image itself says of the order in which a start reads the layer. */
  #annotatedFirstUse(locations: readonly LayerLocation[], chunkCount: number): number[] | undefined {
    for (const { descriptor } of locations) {
      const text = descriptor.annotations?.[FIRST_USE_ANNOTATION];
      if (text === undefined) continue;
      try {
        return decodeFirstUse(text, chunkCount);
      } catch (error) {
        this.#logger.warn({ err: error, digest: descriptor.digest }, "an image's record of first use cannot be read: it is ignored");
      }
    }
    return undefined;
  }

  #keepRecord(layer: HeldLayer): void {
    if (this.#layers.get(layer.key) !== layer) return;
    try {
      this.#directory.writeRecord(layer.key, layer.record());
    } catch (error) {
      this.#logger.warn(
        { err: error, digest: layer.layerDigest },
        "what is known of a layer cannot be kept on disk: it is lost at the next restart",
      );
    }
  }

  expect(requests: readonly Omit<AttachRequest, "owner">[]): void {
    this.#finder.expect(requests);
  }

  get(owner: string): AttachedLayer | undefined {
    const layer = this.#owners.get(owner);
    return layer?.path === undefined ? undefined : attachedLayer(owner, layer);
  }

  list(): readonly AttachedLayer[] {
    return [...this.#owners.keys()].map((owner) => this.get(owner)).filter((layer) => layer !== undefined);
  }

  async check(owner: string, options: { readonly signal?: AbortSignal | undefined } = {}): Promise<void> {
    const layer = this.#owners.get(owner);
    if (layer?.path === undefined) throw new EstargzError("NOT_FOUND", `owner ${owner} holds no layer`);
    const { store } = layer.fill;
    await raceSignal(
      stat(layer.path).catch((error: unknown) => {
        throw new EstargzError("MOUNT_FAILED", `layer ${layer.layerDigest} does not answer at ${String(layer.path)}`, { cause: error });
      }),
      options.signal,
    );
    if (store.coveredBytes >= store.totalBytes) return;
    const errors: unknown[] = [];
    for (const reader of layer.readers) {
      try {
        await reader.readAt(0, 1, options);
        return;
      } catch (error) {
        options.signal?.throwIfAborted();
        errors.push(error);
      }
    }
    throw new EstargzError("UNAVAILABLE", `no source of layer ${layer.layerDigest} answers, and bytes of it are still missing`, {
      cause: errors.length === 1 ? errors[0] : new AggregateError(errors),
    });
  }

  firstUse(owner: string): readonly number[] {
    return [...(this.#owners.get(owner)?.fill.firstUse ?? [])];
  }

  coverage(owner: string): LayerCoverage | undefined {
    const store = this.#owners.get(owner)?.fill.store;
    return store === undefined
      ? undefined
      : { totalBytes: store.totalBytes, localBytes: store.coveredBytes, inodes: store.index.inodeCount };
  }

  statistics(): LayerFileSystemStatistics {
    return { fill: this.#scheduler.statistics(), driver: this.driver.statistics(), localBytes: this.#budget.usedBytes() };
  }

  async detach(owner: string): Promise<void> {
    const layer = this.#owners.get(owner);
    if (layer === undefined) return;
    this.#owners.delete(owner);
    layer.owners.delete(owner);
    layer.lastUsedMs = Date.now();
    if (layer.owners.size > 0) {
      this.#keepRecord(layer);
      return;
    }
    await this.#showIfHeld(layer);
    if (layer.owners.size > 0 || this.#layers.get(layer.key) !== layer) return;
    if (layer.key.startsWith("unverified-")) {
      await this.#remove(layer);
      return;
    }
    layer.fill.store.writeFirstUse(layer.fill.firstUse);
    this.#keepRecord(layer);
  }

  async collect(): Promise<number> {
    let bytes = 0;
    for (const layer of this.#layers.values()) if (layer.owners.size === 0) bytes += await this.#remove(layer);
    return bytes;
  }

  async #remove(layer: HeldLayer): Promise<number> {
    this.#finder.layers.delete(layer.key);
    this.#digests.remove(layer.fill.store.id);
    this.#scheduler.remove(layer.fill);
    // The folder's name is free before anything is waited for.
    const [bytes] = await Promise.all([layer.fill.store.remove(), closeAll(layer.readers)]);
    return bytes;
  }

  #throwIfClosed(): void {
    if (this.#closed !== undefined) throw new EstargzError("CLOSED", "the layer file system is closed");
  }

  close(options: { readonly unmount?: boolean | undefined } = {}): Promise<void> {
    this.#closed ??= this.#close(options);
    return this.#closed;
  }

  async #close(options: { readonly unmount?: boolean | undefined }): Promise<void> {
    this.#closing.abort(new EstargzError("CLOSED", "the layer file system was closed"));
    try {
      await this.driver.close(options);
    } finally {
      this.#budget.close();
      await this.#scheduler.close();
      this.#events.close();
      await this.#opener.close();
      const marks = new Map<string, FileMarks>();
      for (const layer of this.#layers.values()) {
        const { store } = layer.fill;
        if (!store.isIntact()) continue;
        store.writeFirstUse(layer.fill.firstUse);
        this.#keepRecord(layer);
        if (!store.index.verified || store.hasSuspects() || !store.writeBitmap()) continue;
        marks.set(layer.key, store.marks());
      }
      try {
        this.#directory.writeCleanMark(marks);
      } catch (error) {
        this.#logger.warn({ err: error }, "the clean stop cannot be noted: local data is hashed again at the next start");
      }
      await closeAll([...this.#layers.values()].flatMap((layer) => layer.readers));
      for (const layer of this.#layers.values()) layer.fill.store.close();
      this.#directory.close();
    }
  }
}

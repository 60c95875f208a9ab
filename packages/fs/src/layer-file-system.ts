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
  type ReaderAt,
} from "@estargz/interface";
import { attachedLayer, chunksOf, closeAll, digestOf, raceSignal, TOC_DIGEST_ANNOTATION, tocDigestOf } from "./attach-request.ts";
import { createDriver } from "./create-driver.ts";
import type { Driver } from "./driver.ts";
import { observeDriver } from "./driver-metrics.ts";
import { startDecoderPool } from "./fill/decoder-pool.ts";
import { createDigestTable, type DigestTable } from "./fill/digest-table.ts";
import { LayerFill } from "./fill/layer-fill.ts";
import { fillSettings } from "./fill/options.ts";
import { FillScheduler } from "./fill/scheduler.ts";
import { HeldLayer } from "./held-layer.ts";
import { createLayerEvents, type LayerEvents } from "./layer-events.ts";
import type { LayerFileSystemOptions } from "./layer-file-system-options.ts";
import type { LayerIndex } from "./layer-index.ts";
import type { LayerFileSystemStatistics, LocalLayerFileSystem } from "./local-layer-file-system.ts";
import { type LayerOpener, startLayerOpener } from "./open/layer-opener.ts";
import { openFromLocations } from "./open/open-from-locations.ts";
import { createDiskBudget, type DiskBudget } from "./store/disk-budget.ts";
import { type FileMarks, LayerStore, removeFolder } from "./store/layer-store.ts";
import { layerKey, StoreDirectory } from "./store/store-directory.ts";

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
  /** Known layers by key. */
  readonly #layers = new Map<string, HeldLayer>();
  readonly #owners = new Map<string, HeldLayer>();
  /** Layers being opened, by key, so that two owners open one layer once. */
  readonly #opening = new Map<string, Promise<HeldLayer>>();
  /** Layers that were expected before their TOC digest was known, by layer digest. */
  readonly #expected = new Map<string, Promise<LayerIndex | undefined>>();
  readonly #closing = new AbortController();
  #nextStore = 1;
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
        const layer = await this.#openStored(key, record.layerDigest, record.locations, record.lastUsedMs);
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
      const layer = await raceSignal(this.#find(request, layerDigest, tocDigest), signal);
      this.#throwIfClosed();
      if (this.#layers.get(layer.key) === layer) return layer;
    }
  }

  expect(requests: readonly Omit<AttachRequest, "owner">[]): void {
    for (const request of requests) {
      try {
        const layerDigest = digestOf(request.locations);
        const tocDigest = tocDigestOf(request);
        // Who attaches sees the error.
        if (tocDigest !== undefined) this.#find(request, layerDigest, tocDigest).catch(() => undefined);
        else if (request.allowUnverified !== true && !this.#isKnown(layerDigest)) this.#expect(request.locations, layerDigest);
      } catch {
        // Shown at attach.
      }
    }
  }

  #isKnown(layerDigest: Digest): boolean {
    for (const layer of this.#layers.values()) if (layer.layerDigest === layerDigest) return true;
    return false;
  }

  #expect(locations: readonly LayerLocation[], layerDigest: Digest): void {
    if (this.#expected.has(layerDigest)) return;
    const opening = this.#openRemote(locations, undefined, false).then(
      ({ index, readers }) => {
        this.#makeReady(index, layerDigest, locations, readers);
        return index;
      },
      () => undefined,
    );
    this.#expected.set(layerDigest, opening);
    // Kept for a while only: nobody may come.
    setTimeout(() => this.#expected.delete(layerDigest), 120_000).unref();
  }

  /** Makes the local store of an expected layer, so that who attaches it only has to show it. Nobody holds it until then. */
  #makeReady(index: LayerIndex, layerDigest: Digest, locations: readonly LayerLocation[], readers: readonly ReaderAt[]): void {
    const key = layerKey(layerDigest, index.tocDigest);
    if (this.#closing.signal.aborted || this.#layers.has(key) || this.#opening.has(key)) {
      void closeAll(readers);
      return;
    }
    const make = async (): Promise<HeldLayer> =>
      (await this.#openStored(key, layerDigest, locations, Date.now())) ?? this.#create(key, index, layerDigest, locations, readers);
    const opening = make().finally(() => this.#opening.delete(key));
    // Who attaches sees the error.
    opening.catch(() => undefined);
    this.#opening.set(key, opening);
  }

  /** Finds a layer in memory, on disk, or at its source. */
  #find(request: Omit<AttachRequest, "owner">, layerDigest: Digest, tocDigest: Digest | undefined): Promise<HeldLayer> {
    if (tocDigest === undefined) return this.#openUnverified(request, layerDigest);
    const key = layerKey(layerDigest, tocDigest);
    const known = this.#layers.get(key);
    if (known !== undefined) return Promise.resolve(known);
    let opening = this.#opening.get(key);
    if (opening === undefined) {
      opening = this.#open(key, request.locations, layerDigest, tocDigest).finally(() => this.#opening.delete(key));
      this.#opening.set(key, opening);
    }
    return opening;
  }

  async #open(key: string, locations: readonly LayerLocation[], layerDigest: Digest, tocDigest: Digest): Promise<HeldLayer> {
    const stored = await this.#openStored(key, layerDigest, locations, Date.now());
    if (stored !== undefined) return stored;
    const expected = await this.#expected.get(layerDigest);
    this.#expected.delete(layerDigest);
    if (expected?.tocDigest === tocDigest) return this.#create(key, expected, layerDigest, locations, undefined);
    const { index, readers } = await this.#openRemote(locations, tocDigest, false);
    return this.#create(key, index, layerDigest, locations, readers);
  }

  async #openUnverified(request: Omit<AttachRequest, "owner">, layerDigest: Digest): Promise<HeldLayer> {
    if (request.allowUnverified !== true) {
      throw new EstargzError(
        "UNVERIFIED",
        `no digest of the TOC of layer ${layerDigest} is known (annotation ${TOC_DIGEST_ANNOTATION}); set allowUnverified to show it all the same`,
      );
    }
    const { index, readers } = await this.#openRemote(request.locations, undefined, true);
    return this.#create(`unverified-${this.#directory.takeNumber()}`, index, layerDigest, request.locations, readers);
  }

  #openRemote(
    locations: readonly LayerLocation[],
    tocDigest: Digest | undefined,
    allowUnverified: boolean,
  ): Promise<{ readonly index: LayerIndex; readonly readers: readonly ReaderAt[] }> {
    const { source, externalToc } = this.#options;
    return openFromLocations(this.#opener, { source, locations, tocDigest, allowUnverified, externalToc, signal: this.#closing.signal });
  }

  async #openStored(
    key: string,
    layerDigest: Digest,
    locations: readonly LayerLocation[],
    lastUsedMs: number,
  ): Promise<HeldLayer | undefined> {
    const store = await LayerStore.open(this.#nextStore++, this.#directory.directory(key), this.#directory.marks(key));
    if (store === undefined) return undefined;
    const readers = locations.map((location) => this.#options.source.open(location));
    return this.#hold(key, store, layerDigest, locations, readers, lastUsedMs);
  }

  async #create(
    key: string,
    index: LayerIndex,
    layerDigest: Digest,
    locations: readonly LayerLocation[],
    opened: readonly ReaderAt[] | undefined,
  ): Promise<HeldLayer> {
    this.#throwIfClosed();
    const id = this.#nextStore++;
    const directory = this.#directory.directory(key);
    let store: LayerStore;
    try {
      store = await LayerStore.create(id, directory, index, {
        maxBackingFiles: this.#options.maxBackingFiles,
        make: this.#opener.make,
      });
    } catch (error) {
      this.#logger.warn({ err: error, directory }, "a layer's data cannot be kept on disk: it is served from its source");
      store = LayerStore.withoutFiles(id, directory, index);
    }
    const readers = opened ?? locations.map((location) => this.#options.source.open(location));
    return this.#hold(key, store, layerDigest, locations, readers, Date.now());
  }

  #hold(
    key: string,
    store: LayerStore,
    layerDigest: Digest,
    locations: readonly LayerLocation[],
    readers: readonly ReaderAt[],
    lastUsedMs: number,
  ): HeldLayer {
    const fill = new LayerFill(store, readers, this.#scheduler);
    fill.recorded = store.readFirstUse();
    const layer = new HeldLayer({ key, layerDigest, fill, locations, readers, lastUsedMs });
    fill.attached = false;
    this.#layers.set(key, layer);
    this.#digests.add(store.id, store.index);
    // Read from end to end until here; what of it is used from now on is little.
    store.index.rest();
    this.#scheduler.add(fill);
    return layer;
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
    this.#layers.delete(layer.key);
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

import { type AttachRequest, type Digest, EstargzError, type LayerLocation, type Logger, type ReaderAt } from "@estargz/interface";
import { closeAll, digestOf, TOC_DIGEST_ANNOTATION, tocDigestOf } from "./attach-request.ts";
import type { DigestTable } from "./fill/digest-table.ts";
import { LayerFill } from "./fill/layer-fill.ts";
import type { FillScheduler } from "./fill/scheduler.ts";
import { HeldLayer } from "./held-layer.ts";
import type { LayerFileSystemOptions } from "./layer-file-system-options.ts";
import type { LayerIndex } from "./layer-index.ts";
import type { LayerOpener } from "./open/layer-opener.ts";
import { openFromLocations } from "./open/open-from-locations.ts";
import { LayerStore } from "./store/layer-store.ts";
import { layerKey, type StoreDirectory } from "./store/store-directory.ts";

/** How long a layer that was expected and opened is kept for whoever attaches it. */
const EXPECTED_MS = 120_000;

/** What {@link LayerFinder} works with. */
export interface LayerFinderOptions {
  readonly options: LayerFileSystemOptions;
  readonly logger: Logger;
  readonly directory: StoreDirectory;
  readonly opener: LayerOpener;
  readonly digests: DigestTable;
  readonly scheduler: FillScheduler;
  /** Aborted with the reason to tell when the file system is closed. */
  readonly closing: AbortSignal;
}

/** Finds layers: in memory, on disk, or at their source. Whoever comes for one that is being opened waits for the same opening. */
export class LayerFinder {
  /** Layers that this process knows, by key. */
  readonly layers: Map<string, HeldLayer> = new Map();
  readonly #with: LayerFinderOptions;
  /** Layers being opened, by key. */
  readonly #opening = new Map<string, Promise<HeldLayer>>();
  /** Layers that were expected before their TOC digest was known, by layer digest. */
  readonly #expected = new Map<string, Promise<LayerIndex | undefined>>();
  #nextStore = 1;

  constructor(options: LayerFinderOptions) {
    this.#with = options;
  }

  /** Begins to open layers that will be attached soon. Whoever attaches sees the errors. */
  expect(requests: readonly Omit<AttachRequest, "owner">[]): void {
    for (const request of requests) {
      try {
        const layerDigest = digestOf(request.locations);
        const tocDigest = tocDigestOf(request);
        // Who attaches sees the error.
        if (tocDigest !== undefined) this.find(request, layerDigest, tocDigest).catch(() => undefined);
        else if (request.allowUnverified !== true && !this.#isKnown(layerDigest)) this.#expect(request.locations, layerDigest);
      } catch {
        // Shown at attach.
      }
    }
  }

  #isKnown(layerDigest: Digest): boolean {
    for (const layer of this.layers.values()) if (layer.layerDigest === layerDigest) return true;
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
    setTimeout(() => this.#expected.delete(layerDigest), EXPECTED_MS).unref();
  }

  /** Makes the local store of an expected layer, so that who attaches it only has to show it. Nobody holds it until then. */
  #makeReady(index: LayerIndex, layerDigest: Digest, locations: readonly LayerLocation[], readers: readonly ReaderAt[]): void {
    const key = layerKey(layerDigest, index.tocDigest);
    if (this.#with.closing.aborted || this.layers.has(key) || this.#opening.has(key)) {
      void closeAll(readers);
      return;
    }
    const make = async (): Promise<HeldLayer> =>
      (await this.openStored(key, layerDigest, locations, Date.now())) ?? this.#create(key, index, layerDigest, locations, readers);
    const opening = make().finally(() => this.#opening.delete(key));
    // Who attaches sees the error.
    opening.catch(() => undefined);
    this.#opening.set(key, opening);
  }

  /** Finds a layer in memory, on disk, or at its source. */
  find(request: Omit<AttachRequest, "owner">, layerDigest: Digest, tocDigest: Digest | undefined): Promise<HeldLayer> {
    if (tocDigest === undefined) return this.#openUnverified(request, layerDigest);
    const key = layerKey(layerDigest, tocDigest);
    const known = this.layers.get(key);
    if (known !== undefined) return Promise.resolve(known);
    let opening = this.#opening.get(key);
    if (opening === undefined) {
      opening = this.#open(key, request.locations, layerDigest, tocDigest).finally(() => this.#opening.delete(key));
      this.#opening.set(key, opening);
    }
    return opening;
  }

  async #open(key: string, locations: readonly LayerLocation[], layerDigest: Digest, tocDigest: Digest): Promise<HeldLayer> {
    const stored = await this.openStored(key, layerDigest, locations, Date.now());
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
    return this.#create(`unverified-${this.#with.directory.takeNumber()}`, index, layerDigest, request.locations, readers);
  }

  #openRemote(
    locations: readonly LayerLocation[],
    tocDigest: Digest | undefined,
    allowUnverified: boolean,
  ): Promise<{ readonly index: LayerIndex; readonly readers: readonly ReaderAt[] }> {
    const { source, externalToc } = this.#with.options;
    return openFromLocations(this.#with.opener, { source, locations, tocDigest, allowUnverified, externalToc, signal: this.#with.closing });
  }

  /** Takes up what an earlier process kept of a layer; `undefined` if there is nothing usable. */
  async openStored(
    key: string,
    layerDigest: Digest,
    locations: readonly LayerLocation[],
    lastUsedMs: number,
  ): Promise<HeldLayer | undefined> {
    const store = await LayerStore.open(this.#nextStore++, this.#with.directory.directory(key), this.#with.directory.marks(key));
    if (store === undefined) return undefined;
    const readers = locations.map((location) => this.#with.options.source.open(location));
    return this.#hold(key, store, layerDigest, locations, readers, lastUsedMs);
  }

  async #create(
    key: string,
    index: LayerIndex,
    layerDigest: Digest,
    locations: readonly LayerLocation[],
    opened: readonly ReaderAt[] | undefined,
  ): Promise<HeldLayer> {
    this.#with.closing.throwIfAborted();
    const id = this.#nextStore++;
    const directory = this.#with.directory.directory(key);
    let store: LayerStore;
    try {
      store = await LayerStore.create(id, directory, index, {
        maxBackingFiles: this.#with.options.maxBackingFiles,
        make: this.#with.opener.make,
      });
    } catch (error) {
      this.#with.logger.warn({ err: error, directory }, "a layer's data cannot be kept on disk: it is served from its source");
      store = LayerStore.withoutFiles(id, directory, index);
    }
    const readers = opened ?? locations.map((location) => this.#with.options.source.open(location));
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
    const fill = new LayerFill(store, readers, this.#with.scheduler);
    fill.recorded = store.readFirstUse();
    const layer = new HeldLayer({ key, layerDigest, fill, locations, readers, lastUsedMs });
    fill.attached = false;
    this.layers.set(key, layer);
    this.#with.digests.add(store.id, store.index);
    // Read from end to end until here; what of it is used from now on is little.
    store.index.rest();
    this.#with.scheduler.add(fill);
    return layer;
  }
}

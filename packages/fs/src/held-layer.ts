import { type Digest, EstargzError, type LayerLocation, type LayerSource, type ReaderAt } from "@estargz/interface";
import type { DriverLayer } from "./driver.ts";
import type { LayerFill } from "./fill/layer-fill.ts";
import { stateFile } from "./state-file.ts";
import type { LayerRecord } from "./store/store-directory.ts";

/** A layer that this process knows: its data, what is fetched of it, who holds it. */
export class HeldLayer {
  readonly key: string;
  readonly layerDigest: Digest;
  readonly fill: LayerFill;
  readonly owners: Set<string> = new Set();
  readonly locations: LayerLocation[];
  readonly readers: ReaderAt[];
  /** Name of its directory while somebody holds it. */
  number: number | undefined;
  path: string | undefined;
  /** The same with exact answers for absent xattrs; see `Driver.exactPath`. */
  exactPath: string | undefined;
  /** Settles when nothing is being shown or hidden; never rejects. */
  turn: Promise<void> = Promise.resolve();
  lastUsedMs: number;
  lastErrorCode: string | undefined;

  constructor(options: {
    readonly key: string;
    readonly layerDigest: Digest;
    readonly fill: LayerFill;
    readonly locations: readonly LayerLocation[];
    readonly readers: readonly ReaderAt[];
    readonly lastUsedMs: number;
  }) {
    this.key = options.key;
    this.layerDigest = options.layerDigest;
    this.fill = options.fill;
    this.locations = [...options.locations];
    this.readers = [...options.readers];
    this.lastUsedMs = options.lastUsedMs;
  }

  get tocDigest(): Digest {
    return this.fill.store.index.tocDigest;
  }

  /** Takes further places up; gives true if there was a new one. */
  addLocations(locations: readonly LayerLocation[], source: LayerSource): boolean {
    const known = new Set(this.locations.map(locationKey));
    const fresh = locations.filter((location) => !known.has(locationKey(location)));
    for (const location of fresh) {
      const reader = source.open(location);
      this.locations.push(location);
      this.readers.push(reader);
      this.fill.addReader(reader);
    }
    if (fresh.length > 0) this.fill.restartSweep();
    return fresh.length > 0;
  }

  /** What a driver shows. */
  driverLayer(number: number): DriverLayer {
    const { store } = this.fill;
    return {
      number,
      index: store.index,
      store,
      fetch: async (inode, offset, length, signal) => {
        if (inode === store.index.stateFile) return this.#state().subarray(offset, offset + length);
        try {
          return await this.fill.read(inode, offset, length, signal);
        } catch (error) {
          if (error instanceof EstargzError) this.lastErrorCode = error.code;
          throw error;
        }
      },
    };
  }

  #state(): Uint8Array {
    const { store } = this.fill;
    const share = store.totalBytes === 0 ? 1 : store.coveredBytes / store.totalBytes;
    const size = store.index.blobSize;
    return stateFile({ digest: this.layerDigest, size, fetchedSize: Math.round(size * share), error: this.lastErrorCode });
  }

  record(): LayerRecord {
    return {
      layerDigest: this.layerDigest,
      tocDigest: this.tocDigest,
      number: this.number,
      owners: [...this.owners],
      locations: this.locations,
      lastUsedMs: this.lastUsedMs,
    };
  }
}

function locationKey(location: LayerLocation): string {
  return `${location.reference} ${location.descriptor.digest}`;
}

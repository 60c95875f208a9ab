import type { LayerLimits } from "@estargz/format";
import type { Digest, LayerLocation, LayerSource, Logger, Metrics } from "@estargz/interface";
import type { DevFuseDriverOptions } from "./dev-fuse/dev-fuse-options.ts";
import type { Driver } from "./driver.ts";
import type { FillOptions } from "./fill/options.ts";
import type { LayerEventListener } from "./layer-events.ts";

/** Options of `createLayerFileSystem`. */
export interface LayerFileSystemOptions extends FillOptions {
  /** Folder for everything that is kept: data, indexes, mounts. One process at a time uses it. */
  readonly root: string;
  /** How blobs are reached. */
  readonly source: LayerSource;
  /** Where layers are mounted; short, as every overlay option names it once a layer. Default `mounts` in `root`. */
  readonly mountRoot?: string | undefined;
  /** Shows layers to the kernel. Default: `dev-fuse` where /dev/fuse can be opened, else `fuse-native`. */
  readonly driver?: Driver | "dev-fuse" | "fuse-native" | undefined;
  /** Further options of the driver `dev-fuse`, like `keeper: false` for mounts that end with the process. */
  readonly devFuse?: Omit<DevFuseDriverOptions, "mountRoot" | "logger"> | undefined;
  /** Most bytes of local data, in blocks of the disk; the least recently used goes first. Default: no limit. */
  readonly maxBytes?: number | undefined;
  /** Most that a layer's TOC may ask for; what is not said has the defaults of `DEFAULT_LIMITS` in `@estargz/format`. */
  readonly layerLimits?: Partial<LayerLimits> | undefined;
  /**
   * Most files of 4 MiB and more in a layer, each of which has a file of its own on disk. A layer with more is served from its
   * source and not kept. Default 65,536.
   */
  readonly maxBackingFiles?: number | undefined;
  /** Whether layers that owners held in an earlier process are shown again. Default true. */
  readonly restore?: boolean | undefined;
  /** Gets a layer's TOC that is stored beside the image (external TOC). */
  readonly externalToc?: ((location: LayerLocation) => Promise<Uint8Array>) | undefined;
  /** Paths that a recorded start of this layer read, in order: fetched after the landmark's files, before the rest. */
  readonly recordedOrder?:
    | ((layer: { readonly layerDigest: Digest; readonly tocDigest: Digest }) => readonly string[] | undefined)
    | undefined;
  /** Gets events: coverage of layers, sources that stop and begin to answer, a store that takes no bytes. Default none. */
  readonly onEvent?: LayerEventListener | undefined;
  /** Milliseconds between two `coverage` events of a layer. Default 1,000. */
  readonly coverageIntervalMs?: number | undefined;
  readonly logger?: Logger | undefined;
  readonly metrics?: Metrics | undefined;
}

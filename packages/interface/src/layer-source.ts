import type { Descriptor } from "./descriptor.ts";
import type { ReaderAt } from "./reader-at.ts";

/** One place a layer's blob can be read from. Serialisable: it is kept on disk across restarts. */
export interface LayerLocation {
  /** The image's reference, like `registry.example/library/node:24`. */
  readonly reference: string;
  readonly descriptor: Descriptor;
}

/** Knows how to reach the blobs of images. */
export interface LayerSource {
  /** Gives a reader of a layer's blob. Does no I/O: the first read does. */
  open(location: LayerLocation): ReaderAt;
}

import type { Digest, LayerCoverage, Logger } from "@estargz/interface";
import type { FetchCause } from "./fill/transfer-run.ts";
import type { HeldLayer } from "./held-layer.ts";

/** Which layer an event is about. */
export interface LayerIdentity {
  readonly layerDigest: Digest;
  readonly tocDigest: Digest;
}

/** Something that happened to a layer file system that an operator or a program above it may want to know. */
export type LayerFileSystemEvent =
  /** A layer's local share changed: at most once an interval for each layer, and a last time at the end. */
  | ({ readonly type: "coverage"; readonly fetchedBytes: Readonly<Record<FetchCause, number>> } & LayerIdentity & LayerCoverage)
  /** No place of a layer gives its bytes; `code` is the last error's. Reads of local data go on. */
  | ({ readonly type: "source-unreachable"; readonly code: string | undefined } & LayerIdentity)
  | ({ readonly type: "source-back" } & LayerIdentity)
  /** Bytes could not be kept: `ENOSPC`, `EROFS`, `EIO`, ... Layers are served from their sources meanwhile. */
  | { readonly type: "store-refused"; readonly code: string; readonly directory: string }
  | { readonly type: "store-back"; readonly directory: string };

/** Gets events, in the order they happen; what it throws is logged and goes no further. */
export type LayerEventListener = (event: LayerFileSystemEvent) => void;

/** Tells a listener what happens. */
export interface LayerEvents {
  onSourceState(storeId: number, reachable: boolean, code: string | undefined): void;
  onStoreState(usable: boolean, code: string, directory: string): void;
  /** Tells the last coverages. */
  close(): void;
}

/** Makes events for a listener; without one, nothing is watched. */
export function createLayerEvents(options: {
  readonly listener: LayerEventListener | undefined;
  /** Milliseconds between looks at the local share of layers. */
  readonly intervalMs: number;
  readonly layers: () => Iterable<HeldLayer>;
  readonly logger: Logger;
}): LayerEvents {
  const { listener, logger } = options;
  if (listener === undefined) return { onSourceState: () => undefined, onStoreState: () => undefined, close: () => undefined };
  const tell = (event: LayerFileSystemEvent): void => {
    try {
      listener(event);
    } catch (error) {
      logger.error({ err: error, type: event.type }, "a listener of events failed");
    }
  };
  const told = new WeakMap<HeldLayer, number>();
  const look = (): void => {
    for (const layer of options.layers()) {
      const { store, fetchedBytes } = layer.fill;
      if (told.get(layer) === store.coveredBytes || (!told.has(layer) && layer.owners.size === 0)) continue;
      told.set(layer, store.coveredBytes);
      tell({
        type: "coverage",
        ...identityOf(layer),
        totalBytes: store.totalBytes,
        localBytes: store.coveredBytes,
        inodes: store.index.inodeCount,
        fetchedBytes: { ...fetchedBytes },
      });
    }
  };
  const timer = setInterval(look, options.intervalMs);
  timer.unref();
  return {
    onSourceState(storeId, reachable, code) {
      for (const layer of options.layers()) {
        if (layer.fill.store.id !== storeId) continue;
        tell(reachable ? { type: "source-back", ...identityOf(layer) } : { type: "source-unreachable", code, ...identityOf(layer) });
      }
    },
    onStoreState(usable, code, directory) {
      tell(usable ? { type: "store-back", directory } : { type: "store-refused", code, directory });
    },
    close() {
      clearInterval(timer);
      look();
    },
  };
}

function identityOf(layer: HeldLayer): LayerIdentity {
  return { layerDigest: layer.layerDigest, tocDigest: layer.tocDigest };
}

import type { Counter, LayerFileSystem, Logger } from "@estargz/interface";
import type { RemoteLayer, StoredSnapshot } from "./snapshot-store.ts";

/** What {@link restoreLayers} works with. */
export interface RestoreOptions {
  readonly snapshots: readonly StoredSnapshot[];
  readonly layers: LayerFileSystem;
  attach(id: number, remote: RemoteLayer): Promise<void>;
  readonly logger: Logger;
  readonly restored: Counter;
}

const AT_ONCE = 8;

/**
 * Shows the layers of stored snapshots again that the file system doesn't show any more. A layer that can't be shown is
 * logged and left: it is tried again when a container asks for it, and never keeps the others from being shown.
 */
export async function restoreLayers(options: RestoreOptions): Promise<void> {
  const missing = options.snapshots.filter(
    (snapshot) => snapshot.remote !== undefined && options.layers.get(String(snapshot.id)) === undefined,
  );
  const queue = missing.values();
  const worker = async (): Promise<void> => {
    for (const snapshot of queue) {
      if (snapshot.remote === undefined) continue;
      try {
        await options.attach(snapshot.id, snapshot.remote);
        options.restored.add(1, { result: "ok" });
      } catch (error) {
        options.restored.add(1, { result: "failed" });
        options.logger.warn(
          { err: error, digest: snapshot.remote.layerDigest, snapshot: snapshot.name },
          "a layer could not be shown again after the restart; it is tried again when it is asked for",
        );
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, missing.length) }, worker));
}

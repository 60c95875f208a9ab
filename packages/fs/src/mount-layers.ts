import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { AttachedLayer, AttachRequest } from "@estargz/interface";
import { createLayerFileSystem } from "./layer-file-system.ts";
import type { LayerFileSystemOptions } from "./layer-file-system-options.ts";
import type { LocalLayerFileSystem } from "./local-layer-file-system.ts";

/** Options of {@link mountLayers}. */
export interface MountLayersOptions extends Omit<LayerFileSystemOptions, "root"> {
  /** Folder for data and mounts, kept at the end. Default: a temporary one, removed at the end. */
  readonly root?: string | undefined;
  /** Layers to show, lowest first. */
  readonly layers: readonly Omit<AttachRequest, "owner">[];
  readonly signal?: AbortSignal | undefined;
}

/** Layers that are mounted for as long as this process wants. */
export interface MountedLayers {
  /** The layers in the order asked for. For overlayfs' `lowerdir`, which wants the uppermost first, reverse them. */
  readonly layers: readonly AttachedLayer[];
  readonly fileSystem: LocalLayerFileSystem;
  /** Unmounts and removes what is temporary. Idempotent. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Mounts layers in one call: all are opened at once, and the mounts end with {@link MountedLayers.close} or this process.
 *
 * @throws what `createLayerFileSystem` and `attach` throw; then nothing stays mounted.
 */
export async function mountLayers(options: MountLayersOptions): Promise<MountedLayers> {
  const root = options.root ?? (await mkdtemp(join(tmpdir(), "estargz-")));
  let fileSystem: LocalLayerFileSystem | undefined;
  let closed: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closed ??= (async () => {
      for (const layer of fileSystem?.list() ?? []) await fileSystem?.detach(layer.owner);
      await fileSystem?.close({ unmount: true });
      if (options.root === undefined) await rm(root, { recursive: true, force: true });
    })();
    return closed;
  };
  try {
    const started = await createLayerFileSystem({ restore: false, ...options, devFuse: { keeper: false, ...options.devFuse }, root });
    fileSystem = started;
    const layers = await Promise.all(
      options.layers.map((layer, index) => started.attach({ ...layer, owner: `mount-${index}` }, { signal: options.signal })),
    );
    return { layers, fileSystem: started, close, [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    throw error;
  }
}

import { rm } from "node:fs/promises";
import { join } from "node:path";
import { createLayerFileSystem, type FillOptions, type LocalLayerFileSystem } from "@estargz/fs";
import type { LayerSource } from "@estargz/interface";
import { asLayerSource, createRegistryClient } from "@estargz/registry";
import type { BuiltLayer } from "./corpus.ts";

/** A layer that is mounted for a measure. */
export interface Mounted {
  readonly system: LocalLayerFileSystem;
  readonly path: string;
  attach(built: BuiltLayer, owner: string): Promise<string>;
  close(): Promise<void>;
}

/** Mounts a layer from a registry at an address, with nothing local. */
export async function mountLayer(
  built: BuiltLayer,
  address: string,
  folder: string,
  options: FillOptions,
  wrap: (source: LayerSource) => LayerSource = (source) => source,
): Promise<Mounted> {
  const client = createRegistryClient();
  const root = join(folder, "fs");
  const system = await createLayerFileSystem({
    ...options,
    root,
    source: wrap(asLayerSource(client)),
    restore: false,
    devFuse: { keeper: false },
  });
  const attach = async (layer: BuiltLayer, owner: string): Promise<string> =>
    (await system.attach({ owner, locations: [layer.location(address)], tocDigest: layer.tocDigest })).path;
  try {
    const path = await attach(built, "layer");
    return {
      system,
      path,
      attach,
      async close() {
        await system.close({ unmount: true });
        await client.close();
        await rm(root, { recursive: true, force: true });
      },
    };
  } catch (error) {
    await system.close({ unmount: true });
    await client.close();
    throw error;
  }
}

/** Waits until an owner's layer is wholly local. */
export async function untilLocal(system: LocalLayerFileSystem, owner: string): Promise<void> {
  for (;;) {
    const coverage = system.coverage(owner);
    if (coverage !== undefined && coverage.localBytes >= coverage.totalBytes) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

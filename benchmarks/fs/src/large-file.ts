import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { buildLayerIndex } from "@estargz/fs";
import { syntheticLayer } from "./synthetic-layer.ts";
import type { Tree } from "./tree.ts";
import { driverVariant, type Variant } from "./variants.ts";

/** A layer with nothing but the large file: one of those whose files the kernel reads by itself. */
export function largeFileVariant(folder: string, tree: Tree, largeBytes: number): Variant {
  const index = buildLayerIndex(
    syntheticLayer([
      { path: "large", type: "dir", size: 0 },
      { path: tree.largeFile, type: "reg", size: largeBytes },
    ]),
  );
  const indexPath = join(folder, "index-of-large");
  writeFileSync(indexPath, new Uint8Array(index.buffer));
  return driverVariant(folder, tree, "dev-fuse", "passthrough", indexPath);
}

import type { LayerIndex } from "./layer-index.ts";

/**
 * Path of the file that holds a regular file's bytes, from `index.dataOffset(inode)` on: the layer's sparse data file,
 * or beside it a backing file of its own. It may not exist as long as no chunk of it is local.
 */
export function dataFilePath(dataPath: string, index: LayerIndex, inode: number): string {
  return index.hasOwnFile(inode) ? `${dataPath}.${inode}` : dataPath;
}

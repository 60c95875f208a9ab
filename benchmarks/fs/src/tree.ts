import { closeSync, ftruncateSync, mkdirSync, openSync, symlinkSync, utimesSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { buildLayerIndex, dataFilePath, type LayerIndex } from "@estargz/fs";
import { type SyntheticEntry, syntheticLayer } from "./synthetic-layer.ts";

/** Sizes of the tree that is measured. */
export interface TreeSize {
  readonly largeBytes: number;
  readonly smallFiles: number;
  readonly packages: number;
}

/** The tree in all its forms on disk. */
export interface Tree {
  readonly indexPath: string;
  readonly dataPath: string;
  /** The same tree unpacked. */
  readonly nativePath: string;
  readonly largeInode: number;
  readonly largeFile: string;
  readonly smallFiles: readonly string[];
  readonly entries: number;
}

const AVERAGE_BYTES = 4300;

/** A large file, a directory of small files, and a tree as node_modules has it: many directories, short files, some symlinks. */
function treeEntries(size: TreeSize): SyntheticEntry[] {
  const entries: SyntheticEntry[] = [
    { path: "large", type: "dir", size: 0 },
    { path: "large/file", type: "reg", size: size.largeBytes },
    { path: "small", type: "dir", size: 0 },
  ];
  for (let i = 0; i < size.smallFiles; i += 1) {
    entries.push({ path: `small/file-${String(i).padStart(6, "0")}.txt`, type: "reg", size: 1 + ((i * 2654435761) % (2 * AVERAGE_BYTES)) });
  }
  entries.push({ path: "modules", type: "dir", size: 0 });
  for (let i = 0; i < size.packages; i += 1) {
    const root = `modules/package-${i}`;
    entries.push({ path: root, type: "dir", size: 0 });
    for (const folder of ["dist", "dist/esm", "lib", "lib/internal", "types"])
      entries.push({ path: `${root}/${folder}`, type: "dir", size: 0 });
    for (const folder of ["", "dist/", "dist/esm/", "lib/", "lib/internal/", "types/"]) {
      for (let file = 0; file < 5; file += 1)
        entries.push({ path: `${root}/${folder}module-${file}.js`, type: "reg", size: 200 + ((i * 31 + file * 977) % 3000) });
    }
    if (i % 8 === 0) entries.push({ path: `${root}/latest`, type: "symlink", size: 4, target: "dist" });
  }
  return entries;
}

/** Makes the tree. */
export function makeTree(folder: string, size: TreeSize): Tree {
  const entries = treeEntries(size);
  const index = buildLayerIndex(syntheticLayer(entries));
  const indexPath = join(folder, "index");
  const dataPath = join(folder, "data");
  const nativePath = join(folder, "native", "1");
  writeFileSync(indexPath, new Uint8Array(index.buffer));
  writeData(index, entries, dataPath, nativePath);
  const largeInode = 2;
  return {
    indexPath,
    dataPath,
    nativePath,
    largeInode,
    largeFile: "large/file",
    smallFiles: entries.filter(({ path, type }) => type === "reg" && path.startsWith("small/")).map(({ path }) => path),
    entries: entries.length,
  };
}

function writeData(index: LayerIndex, entries: readonly SyntheticEntry[], dataPath: string, nativePath: string): void {
  mkdirSync(nativePath, { recursive: true });
  const data = openSync(dataPath, "w");
  ftruncateSync(data, index.dataBytes);
  const block = new Uint8Array(1 << 20);
  for (let i = 0; i < block.length; i += 1) block[i] = (i * 31 + (i >> 8)) & 255;
  entries.forEach(({ path, type, size, target }, i) => {
    const inode = i + 1;
    const native = join(nativePath, path);
    if (type === "dir") mkdirSync(native);
    else if (type === "symlink") symlinkSync(target ?? "", native);
    else if (index.hasOwnFile(inode)) {
      for (const file of [openSync(native, "w"), openSync(dataFilePath(dataPath, index, inode), "w")]) {
        for (let at = 0; at < size; at += block.length) writeSync(file, block, 0, Math.min(block.length, size - at), at);
        closeSync(file);
      }
    } else {
      const bytes = block.subarray(i & 1023, (i & 1023) + size);
      writeFileSync(native, bytes);
      utimesSync(native, 1_700_000_000, 1_700_000_000);
      writeSync(data, bytes, 0, size, index.dataOffset(inode));
    }
  });
  closeSync(data);
}

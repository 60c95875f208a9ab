import { createReadStream, type Stats } from "node:fs";
import { lstat, readdir, readlink } from "node:fs/promises";
import { join } from "node:path";
import { device, directory, type EntryOptions, fifo, file, hardLink, type LayerInput, symlink } from "../writer/entries.ts";
import { fileError, guardFile } from "./file-error.ts";

/** Options of {@link readFolder}. */
export interface ReadFolderOptions {
  /** Called with the path in the layer and the attributes found; what it gives is written instead. Return `undefined` to leave an entry out. */
  readonly map?: ((path: string, attributes: EntryOptions) => EntryOptions | undefined) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The entries of a folder, to be given to `writeLayer`: sorted by name, so that the same folder gives the same layer; hard links found
 * by their inode. Extended attributes are not read, since Node can't; sockets are left out.
 *
 * @throws `NOT_FOUND`, `PERMISSION_DENIED`, `IO_ERROR`.
 */
export async function* readFolder(folder: string, options: ReadFolderOptions = {}): AsyncIterable<LayerInput> {
  const linked = new Map<string, string>();
  yield* readInto(folder, "", linked, options);
}

async function* readInto(
  folder: string,
  prefix: string,
  linked: Map<string, string>,
  options: ReadFolderOptions,
): AsyncIterable<LayerInput> {
  for (const name of (await guardFile(folder, readdir(folder))).sort()) {
    options.signal?.throwIfAborted();
    const path = join(folder, name);
    const stats = await guardFile(path, lstat(path));
    const layerPath = prefix + name;
    const found: EntryOptions = { mode: stats.mode & 0o7777, uid: stats.uid, gid: stats.gid, mtime: stats.mtime };
    const attributes = options.map === undefined ? found : options.map(layerPath, found);
    if (attributes === undefined) continue;
    const entry = await toEntry(path, layerPath, stats, attributes, linked);
    if (entry !== undefined) yield entry;
    if (stats.isDirectory()) yield* readInto(path, `${layerPath}/`, linked, options);
  }
}

async function toEntry(
  path: string,
  layerPath: string,
  stats: Stats,
  attributes: EntryOptions,
  linked: Map<string, string>,
): Promise<LayerInput | undefined> {
  if (stats.isDirectory()) return directory(layerPath, attributes);
  if (stats.isSymbolicLink()) return symlink(layerPath, await guardFile(path, readlink(path)), attributes);
  if (stats.isFIFO()) return fifo(layerPath, attributes);
  if (stats.isCharacterDevice() || stats.isBlockDevice()) {
    const [major, minor] = splitDevice(stats.rdev);
    return device(layerPath, stats.isBlockDevice() ? "block" : "char", major, minor, attributes);
  }
  if (!stats.isFile()) return undefined;
  const inode = `${stats.dev}:${stats.ino}`;
  const first = stats.nlink > 1 ? linked.get(inode) : undefined;
  if (first !== undefined) return hardLink(layerPath, first, attributes);
  if (stats.nlink > 1) linked.set(inode, layerPath);
  return file(layerPath, { size: stats.size, stream: () => contentOf(path) }, attributes);
}

async function* contentOf(path: string): AsyncIterable<Uint8Array> {
  try {
    for await (const piece of createReadStream(path, { highWaterMark: 1 << 20 })) yield piece as Uint8Array;
  } catch (error) {
    throw fileError(path, error);
  }
}

/** Linux's numbering of devices (gnu_dev_major). */
function splitDevice(rdev: number): [major: number, minor: number] {
  const number = BigInt(rdev);
  const major = ((number >> 8n) & 0xfffn) | ((number >> 32n) & 0xfffff000n);
  const minor = (number & 0xffn) | ((number >> 12n) & 0xffffff00n);
  return [Number(major), Number(minor)];
}

import type { DriverLayer } from "../driver.ts";

/** What a path of the mount leads to. */
export type Resolved = { readonly type: "root" } | { readonly type: "inode"; readonly layer: DriverLayer; readonly inode: number };

const MAX_CACHED = 10_000;

/** Layers by number, and the way from paths to their inodes: fuse-native knows paths only. */
export class PathTree {
  readonly layers: Map<number, DriverLayer> = new Map();
  readonly #cache = new Map<string, Resolved>();

  /** Finds what a path names; `undefined` if nothing. */
  resolve(path: string): Resolved | undefined {
    const known = this.#cache.get(path);
    if (known !== undefined) return known;
    const found = this.#find(path);
    if (found === undefined) return undefined;
    if (this.#cache.size >= MAX_CACHED) this.#cache.clear();
    this.#cache.set(path, found);
    return found;
  }

  #find(path: string): Resolved | undefined {
    const [number, ...names] = path.split("/").filter((name) => name !== "");
    if (number === undefined) return { type: "root" };
    const layer = /^\d+$/u.test(number) ? this.layers.get(Number(number)) : undefined;
    if (layer === undefined) return undefined;
    let inode = 0;
    for (const name of names) {
      inode = layer.index.lookup(inode, Buffer.from(name));
      if (inode < 0) return undefined;
    }
    return { type: "inode", layer, inode };
  }

  /** Shows a layer. */
  add(layer: DriverLayer): void {
    this.layers.set(layer.number, layer);
    this.#cache.clear();
  }

  /** Takes a layer away. */
  remove(number: number): void {
    this.layers.delete(number);
    this.#cache.clear();
  }
}

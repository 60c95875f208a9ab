import { EstargzError, type Layer, type LayerEntry } from "@estargz/interface";

const MAX_SYMLINKS = 40;
const WHITEOUT = ".wh.";
const OPAQUE = ".wh..wh..opq";

/** Names at the root of a layer that belong to the format and not to the image. */
const OWN_NAMES = new Set([".prefetch.landmark", ".no.prefetch.landmark", "stargz.index.json"]);

/** A file of an image, in the layer that shows it. */
export interface ImageNode {
  /** Path from the image's root, without a leading slash; `""` is the root. */
  readonly path: string;
  readonly entry: LayerEntry;
  readonly layer: Layer;
  /** The directory's contributions from the top layer down; empty for anything but directories. */
  readonly parts: readonly ImagePart[];
}

interface ImagePart {
  readonly layer: Layer;
  readonly entry: LayerEntry;
}

/** The layers of an image as one tree, as overlayfs would show it. */
export interface ImageTree {
  readonly root: ImageNode;
  /**
   * Finds a path; follows symlinks on the way, and the last one unless `followLast` is false.
   *
   * @throws `NOT_FOUND` when nothing is there, `INVALID_ARGUMENT` for too many symlinks.
   */
  find(path: string, options?: { readonly followLast?: boolean | undefined }): ImageNode;
  /** What a directory holds, sorted by name. */
  children(node: ImageNode): readonly { readonly name: string; readonly node: ImageNode }[];
}

function join(directory: string, name: string): string {
  return directory === "" ? name : `${directory}/${name}`;
}

function isDirectory(entry: LayerEntry): boolean {
  return entry.type === "dir";
}

/** What a name in a directory is, given the directory's parts from the top down. */
function childOf(node: ImageNode, name: string): ImageNode | undefined {
  const path = join(node.path, name);
  if (name.startsWith(WHITEOUT) || (node.path === "" && OWN_NAMES.has(name))) return undefined;
  const parts: ImagePart[] = [];
  for (const { layer } of node.parts) {
    const entry = layer.lookup(path);
    if (entry !== undefined) {
      if (parts.length > 0 && !isDirectory(entry)) break;
      parts.push({ layer, entry });
      if (!isDirectory(entry) || layer.lookup(join(path, OPAQUE)) !== undefined) break;
    }
    if (layer.lookup(join(node.path, `${WHITEOUT}${name}`)) !== undefined) break;
  }
  const top = parts[0];
  if (top === undefined) return undefined;
  return { path, entry: top.entry, layer: top.layer, parts: isDirectory(top.entry) ? parts : [] };
}

function find(root: ImageNode, wanted: string, followLast: boolean): ImageNode {
  const missing = (path: string): never => {
    const text = `the image has no ${JSON.stringify(`/${path}`)}: see what it has with estargz ls`;
    throw new EstargzError("NOT_FOUND", text, { details: { path } });
  };
  let pending = wanted.split("/").filter((part) => part !== "" && part !== ".");
  let trail: ImageNode[] = [root];
  for (let links = 0; pending.length > 0; ) {
    const [name = "", ...rest] = pending;
    pending = rest;
    if (name === "..") {
      trail = trail.length > 1 ? trail.slice(0, -1) : trail;
      continue;
    }
    const parent = trail.at(-1) ?? root;
    const child = childOf(parent, name) ?? missing([parent.path, name, ...rest].filter((part) => part !== "").join("/"));
    if (child.entry.type === "symlink" && (rest.length > 0 || followLast)) {
      links += 1;
      if (links > MAX_SYMLINKS)
        throw new EstargzError("INVALID_ARGUMENT", `too many symbolic links at ${JSON.stringify(`/${child.path}`)}`);
      const target = child.entry.linkName.split("/").filter((part) => part !== "" && part !== ".");
      if (child.entry.linkName.startsWith("/")) trail = [root];
      pending = [...target, ...rest];
      continue;
    }
    if (rest.length > 0 && !isDirectory(child.entry)) missing(join(child.path, rest.join("/")));
    trail.push(child);
  }
  return trail.at(-1) ?? root;
}

/**
 * Shows the layers of an image as one tree, whiteouts and opaque directories applied.
 *
 * @param layers - The image's layers, the lowest first, as its manifest has them. At least one.
 */
export function createImageTree(layers: readonly Layer[]): ImageTree {
  const parts = layers.toReversed().map((layer) => ({ layer, entry: layer.root }));
  const top = parts[0];
  if (top === undefined) throw new EstargzError("INVALID_ARGUMENT", "the image has no layers");
  const opaque = parts.findIndex(({ layer }) => layer.lookup(OPAQUE) !== undefined);
  const root: ImageNode = { path: "", ...top, parts: opaque < 0 ? parts : parts.slice(0, opaque + 1) };
  return {
    root,
    find: (path, options = {}) => find(root, path, options.followLast ?? true),
    children(node) {
      const names = new Set<string>();
      for (const { layer, entry } of node.parts) for (const child of layer.children(entry)) names.add(child.name);
      return [...names].sort().flatMap((name) => {
        const child = childOf(node, name);
        return child === undefined ? [] : [{ name, node: child }];
      });
    },
  };
}

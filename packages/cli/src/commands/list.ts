import type { LayerEntry } from "@estargz/interface";
import { columns } from "../bytes-text.ts";
import type { ImageNode, ImageTree } from "../image-tree.ts";

const TYPE_LETTERS: Readonly<Record<LayerEntry["type"], string>> = { dir: "d", reg: "-", symlink: "l", char: "c", block: "b", fifo: "p" };

/** Permissions as `ls -l` writes them. */
export function modeText(entry: Pick<LayerEntry, "type" | "mode">): string {
  const { mode } = entry;
  const triple = (shift: number, special: number, letter: string): string => {
    const bits = (mode >> shift) & 7;
    const set = (mode & special) !== 0;
    const execute = (bits & 1) !== 0;
    const last = set ? (execute ? letter : letter.toUpperCase()) : execute ? "x" : "-";
    return `${(bits & 4) !== 0 ? "r" : "-"}${(bits & 2) !== 0 ? "w" : "-"}${last}`;
  };
  return `${TYPE_LETTERS[entry.type]}${triple(6, 0o4000, "s")}${triple(3, 0o2000, "s")}${triple(0, 0o1000, "t")}`;
}

function timeText(mtimeNs: bigint): string {
  return new Date(Number(mtimeNs / 1_000_000n)).toISOString().replace("T", " ").slice(0, 19);
}

/** A name in a listing. */
export interface ListedName {
  readonly name: string;
  readonly node: ImageNode;
}

/** What `ls` shows of a path: the names in a directory, or the path itself. */
export function listNames(tree: ImageTree, path: string, recursive: boolean): ListedName[] {
  const node = tree.find(path);
  if (node.entry.type !== "dir") return [{ name: path, node }];
  const names: ListedName[] = [];
  const add = (directory: ImageNode, prefix: string): void => {
    for (const child of tree.children(directory)) {
      const name = `${prefix}${child.name}`;
      names.push({ name, node: child.node });
      if (recursive && child.node.entry.type === "dir") add(child.node, `${name}/`);
    }
  };
  add(node, "");
  return names;
}

/** A listing with modes, owners, sizes and times, times in UTC. */
export function longListing(names: readonly ListedName[]): string {
  const rows = names.map(({ name, node: { entry } }) => {
    const device = entry.type === "char" || entry.type === "block";
    const size = device ? `${entry.devMajor},${entry.devMinor}` : String(entry.size);
    const shown = entry.type === "symlink" ? `${name} -> ${entry.linkName}` : name;
    return [modeText(entry), String(entry.linkCount), `${entry.uid}:${entry.gid}`, size, timeText(entry.mtimeNs), shown];
  });
  return columns(rows, [1, 3]);
}

/** A listing for programs. */
export function jsonListing(names: readonly ListedName[]): unknown {
  return names.map(({ node: { path, entry, layer } }) => ({
    path: `/${path}`,
    type: entry.type,
    size: entry.size,
    mode: entry.mode.toString(8).padStart(4, "0"),
    uid: entry.uid,
    gid: entry.gid,
    mtime: new Date(Number(entry.mtimeNs / 1_000_000n)).toISOString(),
    ...(entry.type === "symlink" ? { target: entry.linkName } : {}),
    ...(entry.digest === undefined ? {} : { digest: entry.digest }),
    tocDigest: layer.tocDigest,
  }));
}

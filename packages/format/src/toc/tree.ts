import { EstargzError } from "@estargz/interface";
import { checkLimit, type LayerLimits } from "../limits.ts";
import { KIND } from "./kind.ts";
import { baseName, cleanPath, compareBytewise, parentOf } from "./path.ts";
import type { TocTable } from "./toc-table.ts";

/** A name in a directory and the inode it leads to. */
interface TreeName {
  readonly name: string;
  readonly inode: number;
}

/** The tree of a layer: which row of the table is which inode, and what is found where. */
export interface Tree {
  /** Row of each inode; inode 0 is the root. */
  readonly rows: readonly number[];
  /** Names of a file, or 2 + subdirectories of a directory, by inode. */
  readonly linkCounts: readonly number[];
  /** Finds an inode by clean path. */
  find(path: string): number | undefined;
  /** Names in a directory, sorted by bytes. */
  children(inode: number): readonly TreeName[];
}

/**
 * Builds the tree: the last of several entries with one path holds, missing parents become directories, hard links lead to
 * their target's inode.
 *
 * @throws {@link EstargzError} `INVALID_TOC` for link cycles, links to directories and parents that are no directories;
 * `UNSUPPORTED` for a hard link whose target isn't in this layer; `LIMIT_EXCEEDED`.
 */
export function buildTree(table: TocTable, limits: LayerLimits): Tree {
  const rowByPath = new Map<string, number>();
  const { paths } = table;
  for (let row = 0; row < paths.length; row += 1) rowByPath.set(paths[row] as string, row);
  dropReplaced(table, rowByPath);
  if (!rowByPath.has("")) rowByPath.set("", table.addImplied(""));
  addParents(table, rowByPath, limits);

  const { kinds } = table;
  const inodeByRow = new Int32Array(paths.length).fill(-1);
  const rows: number[] = [];
  const isLive = liveness(table, rowByPath);
  const root = rowByPath.get("") as number;
  inodeByRow[root] = 0;
  rows.push(root);
  for (let row = 0; row < paths.length; row += 1) {
    if (kinds[row] === KIND.hardlink || row === root || !isLive(row)) continue;
    inodeByRow[row] = rows.length;
    rows.push(row);
  }
  const linkCounts = countLinks(table, rowByPath, inodeByRow, rows);
  const find = (path: string): number | undefined => {
    const row = rowByPath.get(path);
    return row === undefined ? undefined : inodeByRow[row];
  };
  let children: (TreeName[] | undefined)[] | undefined;
  return {
    rows,
    linkCounts,
    find,
    children(inode) {
      children ??= listChildren(rowByPath, inodeByRow, rows.length);
      return children[inode] ?? [];
    },
  };
}

/** Whether a row is the one that its path leads to. */
function liveness(table: TocTable, rowByPath: ReadonlyMap<string, number>): (row: number) => boolean {
  if (rowByPath.size === table.paths.length) return () => true;
  return (row) => rowByPath.get(table.paths[row] as string) === row;
}

/**
 * Takes away what a later entry has replaced: an unpacker that meets a file where a directory was removes the directory with
 * everything in it. Only layers that name a path twice can have such entries.
 */
function dropReplaced(table: TocTable, rowByPath: Map<string, number>): void {
  const { paths, kinds } = table;
  if (rowByPath.size === paths.length) return;
  for (const [path, row] of rowByPath) {
    for (let parent = path; parent !== ""; ) {
      parent = parentOf(parent);
      const parentRow = rowByPath.get(parent) ?? -1;
      if (parentRow > row && kinds[parentRow] !== KIND.dir) {
        rowByPath.delete(path);
        break;
      }
    }
  }
}

/** Whether `parent`, which isn't the root, is the directory that holds `path`. Makes no text, unlike {@link parentOf}. */
function isChildOf(path: string, parent: string): boolean {
  return path.lastIndexOf("/") === parent.length && path.startsWith(parent);
}

/** Adds directories that are only implied, and checks that all parents are directories. */
function addParents(table: TocTable, rowByPath: Map<string, number>, limits: LayerLimits): void {
  const { paths } = table;
  const isLive = liveness(table, rowByPath);
  const listed = paths.length;
  let last = "";
  // The list grows while we walk: implied directories have parents, too.
  for (let row = 0; row < paths.length; row += 1) {
    const path = paths[row] as string;
    if (path === "" || (last !== "" && isChildOf(path, last)) || (row < listed && !isLive(row))) continue;
    const parent = parentOf(path);
    const parentRow = rowByPath.get(parent);
    if (parentRow === undefined) {
      rowByPath.set(parent, table.addImplied(parent));
      checkLimit("maxEntries", paths.length, limits, "number of entries and implied directories");
    } else if (table.kinds[parentRow] !== KIND.dir) {
      throw new EstargzError("INVALID_TOC", `${JSON.stringify(path)} is in ${JSON.stringify(parent)}, which is not a directory`);
    }
    last = parent;
  }
}

/** Leads hard links to their target's inode, and counts links. */
function countLinks(table: TocTable, rowByPath: ReadonlyMap<string, number>, inodeByRow: Int32Array, rows: readonly number[]): number[] {
  const { kinds, paths } = table;
  const linkCounts: number[] = rows.map((row) => (kinds[row] === KIND.dir ? 2 : 1));
  const addLink = (inode: number): void => {
    linkCounts[inode] = (linkCounts[inode] as number) + 1;
  };
  for (const row of rows) {
    if (kinds[row] !== KIND.dir || paths[row] === "") continue;
    addLink(inodeByRow[rowByPath.get(parentOf(paths[row] as string)) as number] as number);
  }
  for (const row of table.linkNames.keys()) {
    if (kinds[row] !== KIND.hardlink || rowByPath.get(paths[row] as string) !== row) continue;
    const inode = inodeByRow[linkTarget(table, rowByPath, row)] as number;
    inodeByRow[row] = inode;
    addLink(inode);
  }
  return linkCounts;
}

/** The row that a hard link leads to in the end. */
function linkTarget(table: TocTable, rowByPath: ReadonlyMap<string, number>, from: number): number {
  const seen = new Set<number>();
  let row = from;
  while (table.kinds[row] === KIND.hardlink) {
    const shown = JSON.stringify(table.paths[from]);
    if (seen.has(row)) throw new EstargzError("INVALID_TOC", `the hard link ${shown} leads to itself`);
    seen.add(row);
    const target = rowByPath.get(cleanPath(table.linkNames.get(row) ?? ""));
    if (target === undefined) {
      throw new EstargzError(
        "UNSUPPORTED",
        `the target of the hard link ${shown} is not in this layer, so the layer has to be unpacked as a whole`,
      );
    }
    row = target;
  }
  if (table.kinds[row] === KIND.dir)
    throw new EstargzError("INVALID_TOC", `the hard link ${JSON.stringify(table.paths[from])} leads to a directory`);
  return row;
}

function listChildren(rowByPath: ReadonlyMap<string, number>, inodeByRow: Int32Array, inodes: number): (TreeName[] | undefined)[] {
  const lists: (TreeName[] | undefined)[] = Array.from({ length: inodes });
  for (const [path, row] of rowByPath) {
    if (path === "") continue;
    const parent = inodeByRow[rowByPath.get(parentOf(path)) as number] as number;
    const entry = { name: baseName(path), inode: inodeByRow[row] as number };
    const list = lists[parent];
    if (list === undefined) lists[parent] = [entry];
    else list.push(entry);
  }
  for (const list of lists) list?.sort((a, b) => compareBytewise(a.name, b.name));
  return lists;
}

import { EstargzError } from "@estargz/interface";
import type { TarHeader } from "../tar/tar-entry.ts";
import { cleanPath, parentOf } from "../toc/path.ts";

/** An entry of a tar whose content is kept elsewhere. */
export interface TarOutline {
  /** Clean path. */
  readonly path: string;
  /** Clean path of a hard link's target. */
  readonly linkPath: string | undefined;
  readonly header: TarHeader;
  readonly head: Uint8Array;
  /** Where its content is kept. */
  readonly offset: number;
}

/** The new order. */
export interface PlannedOrder {
  readonly first: readonly TarOutline[];
  readonly rest: readonly TarOutline[];
  readonly missing: readonly string[];
}

/**
 * Puts prioritised files in front: before each its parents and, if it is a hard link, its target. Of entries with the same path the
 * last is kept. Parents that the tar has no entry for are passed over.
 *
 * @throws {@link EstargzError} `NOT_FOUND` for a path that doesn't exist, unless `allowMissing`; `INVALID_TAR` for hard links that lead to themselves.
 */
export function planOrder(entries: readonly TarOutline[], prioritized: readonly string[], allowMissing: boolean): PlannedOrder {
  const byPath = new Map<string, TarOutline>();
  for (const entry of entries) byPath.set(entry.path, entry);
  const first = new Set<TarOutline>();
  const missing: string[] = [];
  for (const name of prioritized) {
    const entry = byPath.get(cleanPath(name));
    if (entry !== undefined) moveUp(entry, byPath, first);
    else if (allowMissing) missing.push(name);
    else
      throw new EstargzError(
        "NOT_FOUND",
        `the prioritised file ${JSON.stringify(name)} is not in the tar; allowMissingFiles passes over it`,
      );
  }
  const rest = entries.filter((entry) => byPath.get(entry.path) === entry && !first.has(entry));
  return { first: [...first], rest, missing };
}

/** Adds an entry after those that it needs. Loops instead of recursion: chains of links may be long. */
function moveUp(entry: TarOutline, byPath: ReadonlyMap<string, TarOutline>, first: Set<TarOutline>): void {
  const chain: TarOutline[] = [];
  for (let next: TarOutline | undefined = entry; next !== undefined && !first.has(next); ) {
    if (chain.includes(next)) throw new EstargzError("INVALID_TAR", `the hard link ${JSON.stringify(next.path)} leads to itself`);
    chain.push(next);
    next = next.linkPath === undefined ? undefined : byPath.get(next.linkPath);
  }
  for (const link of chain.reverse()) {
    for (const parent of parentsOf(link.path)) {
      const directory = byPath.get(parent);
      if (directory !== undefined) first.add(directory);
    }
    first.add(link);
  }
}

function parentsOf(path: string): string[] {
  const parents: string[] = [];
  for (let at = path; at !== ""; ) {
    at = parentOf(at);
    parents.unshift(at);
  }
  return parents;
}

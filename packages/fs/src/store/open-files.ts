import type { StoreFiles } from "./store-files.ts";

/** Files that one thread keeps open, over all layers: the least recently used is closed for another. */
export interface OpenFiles {
  readonly calls: StoreFiles;
  /** Descriptor of an existing file, good until the next call. Throws the file system's error. */
  get(owner: object, path: string): number;
  /** Closes what an owner has open. */
  close(owner: object): void;
}

interface OpenFile {
  readonly path: string;
  readonly file: number;
  readonly siblings: Map<string, OpenFile>;
}

/** Keeps at most `maxFiles` open. */
export function createOpenFiles(calls: StoreFiles, maxFiles = 256): OpenFiles {
  // By owner, because a layer that was removed and made again has the same paths and other files.
  const owners = new Map<object, Map<string, OpenFile>>();
  const byUse = new Set<OpenFile>();
  const close = (open: OpenFile): void => {
    byUse.delete(open);
    open.siblings.delete(open.path);
    calls.close(open.file);
  };
  return {
    calls,
    get(owner, path) {
      const siblings = owners.get(owner) ?? new Map<string, OpenFile>();
      owners.set(owner, siblings);
      const known = siblings.get(path);
      if (known !== undefined) {
        byUse.delete(known);
        byUse.add(known);
        return known.file;
      }
      const [oldest] = byUse;
      if (oldest !== undefined && byUse.size >= maxFiles) close(oldest);
      const open: OpenFile = { path, file: calls.open(path), siblings };
      siblings.set(path, open);
      byUse.add(open);
      return open.file;
    },
    close(owner) {
      for (const open of owners.get(owner)?.values() ?? []) close(open);
      owners.delete(owner);
    },
  };
}

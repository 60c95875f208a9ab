import { createReadStream } from "node:fs";
import { lstat, readdir, readlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { pack as createPack, type Header, type Pack } from "tar-stream";

/** When everything in the image was made: the same input gives the same image. */
const madeAt = new Date("2026-01-01T00:00:00Z");

interface Owner {
  readonly uid: number;
  readonly gid: number;
}

const rootOwner: Owner = { uid: 0, gid: 0 };

/** Writes one layer as a tar, from files of this machine. */
export interface LayerTar {
  /** A folder and the folders above it; a name that is there already is left alone. */
  directory(path: string, mode?: number, owner?: Owner): void;
  file(path: string, content: string | Uint8Array, options?: FileOptions): void;
  symlink(path: string, target: string, owner?: Owner): void;
  /** Another name of a program. An unpacker takes the mode from the last name. */
  hardLink(path: string, target: string, mode: number): void;
  /** Takes a path of a lower layer away. */
  whiteout(path: string): void;
  /** Copies a file or a whole folder; names with one inode become hard links. `keep` says which source paths are wanted. */
  copy(source: string, path: string, options?: CopyOptions): Promise<void>;
  /** Ends the tar. */
  finish(): void;
  readonly stream: Pack;
  /** Files that were written. */
  readonly files: number;
}

interface FileOptions {
  readonly mode?: number;
  readonly owner?: Owner;
  readonly xattrs?: Readonly<Record<string, string>>;
}

interface CopyOptions {
  readonly owner?: Owner;
  readonly keep?: (source: string) => Promise<boolean>;
  readonly xattrs?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal | undefined;
}

/** Begins a layer. Read `stream` while it is filled: it holds back the writer when nobody reads. */
export function createLayerTar(): LayerTar {
  const pack = createPack();
  const directories = new Set<string>([""]);
  const inodes = new Map<string, string>();
  let files = 0;

  const headers = (name: string, owner: Owner, rest: Partial<Header>): Partial<Header> & { name: string } => ({
    name,
    uid: owner.uid,
    gid: owner.gid,
    mtime: madeAt,
    ...rest,
  });
  const pax = (xattrs: Readonly<Record<string, string>> = {}): Partial<Header> => {
    const records = Object.entries(xattrs).map(([name, value]) => [`SCHILY.xattr.${name}`, value]);
    return records.length === 0 ? {} : { pax: Object.fromEntries(records) };
  };
  const directory = (path: string, mode = 0o755, owner = rootOwner): void => {
    if (directories.has(path)) return;
    const parent = dirname(path);
    if (parent !== ".") directory(parent, 0o755, owner);
    directories.add(path);
    pack.entry(headers(`${path}/`, owner, { type: "directory", mode }));
  };
  const above = (path: string, owner: Owner): void => {
    const parent = dirname(path);
    if (parent !== ".") directory(parent, 0o755, owner);
  };

  const copyFile = async (source: string, path: string, options: CopyOptions): Promise<void> => {
    const owner = options.owner ?? rootOwner;
    const status = await lstat(source);
    const inode = `${status.dev}:${status.ino}`;
    const first = status.nlink > 1 ? inodes.get(inode) : undefined;
    above(path, owner);
    files += 1;
    if (first !== undefined) {
      pack.entry(headers(path, owner, { type: "link", linkname: first, mode: status.mode & 0o7777 }));
      return;
    }
    inodes.set(inode, path);
    const rest = { type: "file", size: status.size, mode: status.mode & 0o7777, ...pax(options.xattrs) } as const;
    if (status.size === 0) {
      pack.entry(headers(path, owner, rest), "");
      return;
    }
    const entry = pack.entry(headers(path, owner, rest));
    await pipeline(createReadStream(source), entry as unknown as NodeJS.WritableStream, { signal: options.signal });
  };

  const copy = async (source: string, path: string, options: CopyOptions = {}): Promise<void> => {
    options.signal?.throwIfAborted();
    if (options.keep !== undefined && !(await options.keep(source))) return;
    const owner = options.owner ?? rootOwner;
    const status = await lstat(source);
    if (status.isSymbolicLink()) {
      above(path, owner);
      pack.entry(headers(path, owner, { type: "symlink", linkname: await readlink(source), mode: 0o777 }));
    } else if (status.isDirectory()) {
      directory(path, status.mode & 0o7777, owner);
      for (const name of (await readdir(source)).sort()) await copy(join(source, name), `${path}/${name}`, options);
    } else if (status.isFile()) {
      await copyFile(source, path, options);
    }
  };

  return {
    directory,
    file(path, content, options = {}) {
      const owner = options.owner ?? rootOwner;
      above(path, owner);
      files += 1;
      pack.entry(headers(path, owner, { mode: options.mode ?? 0o644, ...pax(options.xattrs) }), Buffer.from(content));
    },
    symlink(path, target, owner = rootOwner) {
      above(path, owner);
      pack.entry(headers(path, owner, { type: "symlink", linkname: target, mode: 0o777 }));
    },
    hardLink(path, target, mode) {
      above(path, rootOwner);
      pack.entry(headers(path, rootOwner, { type: "link", linkname: target, mode }));
    },
    whiteout(path) {
      const parent = dirname(path);
      above(path, rootOwner);
      pack.entry(headers(`${parent === "." ? "" : `${parent}/`}.wh.${path.slice(path.lastIndexOf("/") + 1)}`, rootOwner, { mode: 0 }), "");
    },
    copy,
    finish: () => pack.finalize(),
    stream: pack,
    get files() {
      return files;
    },
  };
}

import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { EstargzError } from "@estargz/interface";
import type { Driver, DriverLayer, DriverStatistics } from "../driver.ts";
import { Errno, errnoOf } from "../errno.ts";
import type { LayerIndex } from "../layer-index.ts";
import { libc } from "../libc.ts";
import { type FuseMount, type FuseOperations, type FuseStat, loadFuseNative } from "./fuse-binding.ts";
import { PathTree } from "./path-tree.ts";
import { LocalReader } from "./read-local.ts";

const MNT_DETACH = 2;

/** Options of {@link createFuseNativeDriver}. */
export interface FuseNativeDriverOptions {
  /** Folder to mount in; the mount is a folder in it. */
  readonly mountRoot: string;
  /** Whether other users may read the mount. Default: true for root. */
  readonly allowOther?: boolean | undefined;
}

/**
 * Mounts layers through fuse-native (libfuse 2): portable, path-based, several times slower than the driver for
 * `/dev/fuse`, and its mount ends with the process.
 *
 * @throws `UNSUPPORTED` without libfuse 2, `MOUNT_FAILED`.
 */
export async function createFuseNativeDriver(options: FuseNativeDriverOptions): Promise<Driver> {
  const Fuse = loadFuseNative();
  const mountPath = join(options.mountRoot, "n");
  // What a killed process left behind.
  libc().umount2?.(mountPath, MNT_DETACH);
  await mkdir(mountPath, { recursive: true });
  const tree = new PathTree();
  const operations = new Operations(tree);
  const fuse = new Fuse(mountPath, operations.table(), {
    allowOther: options.allowOther ?? process.getuid?.() === 0,
    // fuse-native has no option of its own for "ro".
    fsname: "estargz,ro",
    defaultPermissions: true,
    kernelCache: true,
    timeout: false,
    attrTimeout: 3600,
  });
  await new Promise<void>((resolve, reject) =>
    fuse.mount((error) => {
      if (error === null || error === undefined) resolve();
      else reject(new EstargzError("MOUNT_FAILED", `cannot mount ${mountPath}: ${error.message}`, { cause: error }));
    }),
  );
  return new FuseNativeDriver(fuse, mountPath, tree, operations);
}

class FuseNativeDriver implements Driver {
  readonly name = "fuse-native";
  readonly #fuse: FuseMount;
  readonly #mountPath: string;
  readonly #tree: PathTree;
  readonly #operations: Operations;
  #closed: Promise<void> | undefined;

  constructor(fuse: FuseMount, mountPath: string, tree: PathTree, operations: Operations) {
    this.#fuse = fuse;
    this.#mountPath = mountPath;
    this.#tree = tree;
    this.#operations = operations;
  }

  async attach(layer: DriverLayer): Promise<string> {
    this.#tree.add(layer);
    return join(this.#mountPath, String(layer.number));
  }

  async ready(): Promise<void> {
    // Nothing is taken over.
  }

  exactPath(): undefined {
    return undefined;
  }

  async detach(number: number): Promise<void> {
    this.#tree.remove(number);
  }

  statistics(): DriverStatistics {
    return this.#operations.statistics();
  }

  /** The mount cannot outlive the process: it is always unmounted. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.#operations.abort();
    libc().umount2?.(this.#mountPath, MNT_DETACH);
    await new Promise<void>((resolve) => this.#fuse.unmount(() => resolve()));
    await this.#operations.close();
    await rm(this.#mountPath, { recursive: true, force: true }).catch(() => undefined);
  }
}

/** Answers what the kernel asks. */
class Operations {
  readonly #tree: PathTree;
  readonly #local = new LocalReader();
  readonly #abort = new AbortController();
  readonly #requests: Record<string, number> = {};
  #misses = 0;
  #errors = 0;

  constructor(tree: PathTree) {
    this.#tree = tree;
  }

  statistics(): DriverStatistics {
    return { requests: { ...this.#requests }, misses: this.#misses, errors: this.#errors };
  }

  abort(): void {
    this.#abort.abort(new EstargzError("CLOSED", "the driver is closed"));
  }

  close(): Promise<void> {
    return this.#local.close();
  }

  #count(kind: string): void {
    this.#requests[kind] = (this.#requests[kind] ?? 0) + 1;
  }

  #at(kind: string, path: string): { layer: DriverLayer; inode: number } | undefined {
    this.#count(kind);
    const found = this.#tree.resolve(path);
    return found?.type === "inode" ? found : undefined;
  }

  table(): FuseOperations {
    return {
      init: (answer) => answer(0),
      getattr: (path, answer) => {
        this.#count("getattr");
        const found = this.#tree.resolve(path);
        if (found === undefined) answer(-Errno.ENOENT);
        else answer(0, found.type === "root" ? rootStat() : statOf(found.layer.index, found.inode));
      },
      readdir: (path, answer) => {
        this.#count("readdir");
        const found = this.#tree.resolve(path);
        if (found === undefined) answer(-Errno.ENOENT);
        else if (found.type === "root") answer(0, [...this.#tree.layers.keys()].map(String));
        else answer(0, namesOf(found.layer.index, found.inode));
      },
      readlink: (path, answer) => {
        const found = this.#at("readlink", path);
        if (found === undefined) answer(-Errno.ENOENT);
        else answer(0, Buffer.from(found.layer.index.link(found.inode)).toString());
      },
      open: (path, flags, answer) => {
        const found = this.#at("open", path);
        if (found === undefined) answer(-Errno.ENOENT);
        else answer((flags & 3) === 0 ? 0 : -Errno.EROFS, found.inode);
      },
      opendir: (_path, _flags, answer) => answer(0, 0),
      release: (_path, _handle, answer) => answer(0),
      releasedir: (_path, _handle, answer) => answer(0),
      read: (path, _handle, buffer, length, offset, answer) => void this.#read(path, buffer, length, offset).then(answer),
      getxattr: (path, name, _position, answer) => {
        const found = this.#at("getxattr", path);
        const value = found?.layer.index.xattr(found.inode, Buffer.from(name));
        if (value === undefined) answer(-Errno.ENODATA);
        else answer(0, Buffer.from(value));
      },
      listxattr: (path, answer) => {
        const found = this.#at("listxattr", path);
        const names = found === undefined ? "" : Buffer.from(found.layer.index.xattrNames(found.inode)).toString();
        answer(
          0,
          names.split("\0").filter((name) => name !== ""),
        );
      },
      statfs: (_path, answer) => answer(0, { bsize: 4096, frsize: 4096, namemax: 255 }),
    };
  }

  async #read(path: string, buffer: Buffer, length: number, offset: number): Promise<number> {
    const found = this.#at("read", path);
    if (found === undefined) return -Errno.ENOENT;
    const { layer, inode } = found;
    const wanted = Math.min(length, layer.index.size(inode) - offset);
    if (wanted <= 0) return 0;
    const target = buffer.subarray(0, wanted);
    try {
      for (let attempt = 0; attempt < 4; attempt++) {
        if (this.#local.isLocal(layer, inode, offset, wanted) && (await this.#local.read(layer, inode, offset, target))) return wanted;
        this.#misses++;
        const bytes = await layer.fetch(inode, offset, wanted, this.#abort.signal);
        if (bytes === undefined) continue;
        target.set(bytes.subarray(0, wanted));
        return bytes.length < wanted ? -Errno.EIO : wanted;
      }
      return -Errno.EIO;
    } catch (error) {
      this.#errors++;
      return -errnoOf(error);
    }
  }
}

function rootStat(): FuseStat {
  const time = new Date(0);
  return { mtime: time, atime: time, ctime: time, nlink: 2, size: 0, mode: 0o040755, uid: 0, gid: 0, rdev: 0 };
}

function statOf(index: LayerIndex, inode: number): FuseStat {
  const time = new Date(index.mtimeSeconds(inode) * 1000 + Math.floor(index.mtimeNanoseconds(inode) / 1_000_000));
  return {
    mtime: time,
    atime: time,
    ctime: time,
    nlink: index.linkCount(inode),
    size: index.size(inode),
    mode: index.mode(inode),
    uid: index.uid(inode),
    gid: index.gid(inode),
    rdev: index.rdev(inode),
  };
}

function namesOf(index: LayerIndex, inode: number): string[] {
  return Array.from({ length: index.childCount(inode) }, (_, position) => Buffer.from(index.childName(inode, position)).toString());
}

import { createRequire } from "node:module";
import { EstargzError } from "@estargz/interface";

/** Attributes as fuse-native takes them. */
export interface FuseStat {
  readonly mtime: Date;
  readonly atime: Date;
  readonly ctime: Date;
  readonly nlink: number;
  readonly size: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
}

/** The operations that are answered here; an answer is an errno (negative), 0, or a number of bytes. */
export interface FuseOperations {
  init(answer: (error: number) => void): void;
  getattr(path: string, answer: (error: number, stat?: FuseStat) => void): void;
  readdir(path: string, answer: (error: number, names?: readonly string[]) => void): void;
  readlink(path: string, answer: (error: number, target?: string) => void): void;
  open(path: string, flags: number, answer: (error: number, handle?: number) => void): void;
  opendir(path: string, flags: number, answer: (error: number, handle?: number) => void): void;
  release(path: string, handle: number, answer: (error: number) => void): void;
  releasedir(path: string, handle: number, answer: (error: number) => void): void;
  read(path: string, handle: number, buffer: Buffer, length: number, offset: number, answer: (result: number) => void): void;
  getxattr(path: string, name: string, position: number, answer: (error: number, value?: Buffer | null) => void): void;
  listxattr(path: string, answer: (error: number, names?: readonly string[]) => void): void;
  statfs(path: string, answer: (error: number, statfs?: Readonly<Record<string, number>>) => void): void;
}

/** A mount of fuse-native. */
export interface FuseMount {
  mount(done: (error: Error | null) => void): void;
  unmount(done: (error: Error | null) => void): void;
}

type FuseConstructor = new (path: string, operations: FuseOperations, options: Readonly<Record<string, unknown>>) => FuseMount;

/**
 * Loads fuse-native.
 *
 * @throws `UNSUPPORTED` where its library (libfuse 2) is missing.
 */
export function loadFuseNative(): FuseConstructor {
  try {
    return createRequire(import.meta.url)("fuse-native") as FuseConstructor;
  } catch (error) {
    throw new EstargzError("UNSUPPORTED", "fuse-native cannot be loaded: install libfuse 2 (Debian: apt-get install libfuse2 fuse)", {
      cause: error,
    });
  }
}

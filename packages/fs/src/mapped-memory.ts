import { closeSync, fstatSync, openSync } from "node:fs";
import { loadLibrary } from "./dev-fuse/system-calls.ts";

/** Bytes of a file that are mapped into this process, for any of its threads. */
export interface MappedMemory {
  readonly address: number;
  /** Bytes. */
  readonly length: number;
}

const PROT_READ = 1;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const MAP_NORESERVE = 0x4000;
const MADV_DONTNEED = 4;

interface Mapping {
  readonly mmap: (address: number, length: number, protection: number, flags: number, fd: number, offset: number) => number;
  readonly madvise: (address: number, length: number, advice: number) => number;
  readonly view: (address: number, length: number) => ArrayBuffer;
}

let bound: Mapping | undefined;

/** Binds the calls once a thread. Throws where koffi cannot be loaded. */
function mapping(): Mapping {
  bound ??= bind();
  return bound;
}

function bind(): Mapping {
  const { koffi, library } = loadLibrary();
  return {
    mmap: library.func("mmap", "int64", ["size_t", "size_t", "int", "int", "int", "int64"]) as Mapping["mmap"],
    madvise: library.func("madvise", "int", ["size_t", "size_t", "int"]) as Mapping["madvise"],
    view: (address, length) => koffi.view(BigInt(address), length),
  };
}

/**
 * Maps a file that nobody changes or shortens. Its pages belong to the kernel's page cache: one copy for all threads,
 * resident when they are used, given back when memory is short.
 *
 * @returns `undefined` where files cannot be mapped: koffi has no build for the machine, the file is empty or absent.
 */
export function mapFile(path: string): MappedMemory | undefined {
  try {
    const { mmap } = mapping();
    const fd = openSync(path, "r");
    try {
      const length = fstatSync(fd).size;
      const address = length === 0 ? -1 : mmap(0, length, PROT_READ, MAP_SHARED, fd, 0);
      return address === -1 ? undefined : { address, length };
    } finally {
      closeSync(fd);
    }
  } catch {
    return undefined;
  }
}

/** Shows mapped bytes to the calling thread. They must never be written to: the pages are read-only. */
export function viewMapped({ address, length }: MappedMemory): ArrayBuffer {
  return mapping().view(address, length);
}

/** Lets go of resident pages. They come back from the page cache, or the disk, when they are used again. */
export function restMapped({ address, length }: MappedMemory): void {
  mapping().madvise(address, length, MADV_DONTNEED);
}

/**
 * Lets go of the file. The addresses stay taken and read as zeros: a thread that still looks there finds an index without
 * anything in it, and the process does not end.
 */
export function releaseMapped({ address, length }: MappedMemory): void {
  mapping().mmap(address, length, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
}

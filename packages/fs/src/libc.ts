import { createRequire } from "node:module";
import type koffiModule from "koffi";

/** The system calls that Node does not have; `undefined` where koffi cannot be loaded. */
export interface Libc {
  readonly fallocate: ((file: number, mode: number, offset: number, length: number) => number) | undefined;
  readonly flock: ((file: number, operation: number) => number) | undefined;
  readonly schedSetscheduler: ((thread: number, policy: number, priority: Int32Array) => number) | undefined;
  readonly umount2: ((path: string, flags: number) => number) | undefined;
}

let loaded: Libc | undefined;

/** Binds the C library once a thread. */
export function libc(): Libc {
  loaded ??= load();
  return loaded;
}

function load(): Libc {
  try {
    const koffi = createRequire(import.meta.url)("koffi") as typeof koffiModule;
    const library = koffi.load("libc.so.6");
    return {
      fallocate: library.func("int fallocate(int fd, int mode, int64_t offset, int64_t len)") as Libc["fallocate"],
      flock: library.func("int flock(int fd, int operation)") as Libc["flock"],
      schedSetscheduler: library.func("int sched_setscheduler(int pid, int policy, const void *param)") as Libc["schedSetscheduler"],
      umount2: library.func("int umount2(const char *target, int flags)") as Libc["umount2"],
    };
  } catch {
    return { fallocate: undefined, flock: undefined, schedSetscheduler: undefined, umount2: undefined };
  }
}

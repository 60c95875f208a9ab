import { closeSync, openSync, readSync, writeSync } from "node:fs";

/** The few file calls that local data is written and read with; injected so that tests can stop at each of them. */
export interface StoreFiles {
  /** Opens an existing file for reading and writing. Never creates one: see {@link LayerStore}. */
  open(path: string): number;
  close(file: number): void;
  /** Writes all of `bytes`. */
  write(file: number, bytes: Uint8Array, position: number): void;
  /** Fills `bytes` as far as the file reaches; gives the bytes read. */
  read(file: number, bytes: Uint8Array, position: number): number;
}

/**
 * Most bytes of one system call. Linux built without kernel preemption runs nothing else on the processor meanwhile: writing
 * 4 MiB at once keeps whoever reads local data waiting for 5 ms.
 */
const MAX_CALL_BYTES = 64 * 1024;

/** The machine's files. */
export const nodeStoreFiles: StoreFiles = {
  open: (path) => openSync(path, "r+"),
  close: (file) => closeSync(file),
  write: (file, bytes, position) => {
    let done = 0;
    while (done < bytes.length) done += writeSync(file, bytes, done, Math.min(MAX_CALL_BYTES, bytes.length - done), position + done);
  },
  read: (file, bytes, position) => {
    let done = 0;
    while (done < bytes.length) {
      const got = readSync(file, bytes, done, Math.min(MAX_CALL_BYTES, bytes.length - done), position + done);
      if (got === 0) break;
      done += got;
    }
    return done;
  },
};

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

/** The machine's files. */
export const nodeStoreFiles: StoreFiles = {
  open: (path) => openSync(path, "r+"),
  close: (file) => closeSync(file),
  write: (file, bytes, position) => {
    let done = 0;
    while (done < bytes.length) done += writeSync(file, bytes, done, bytes.length - done, position + done);
  },
  read: (file, bytes, position) => {
    let done = 0;
    while (done < bytes.length) {
      const got = readSync(file, bytes, done, bytes.length - done, position + done);
      if (got === 0) break;
      done += got;
    }
    return done;
  },
};

import { renameSync, rmSync, writeFileSync } from "node:fs";

/** The file calls that records and marks are kept with; injected so that tests can stop at each of them. */
export interface RecordFiles {
  /** Replaces or makes a file. */
  write(path: string, text: string): void;
  rename(from: string, to: string): void;
  /** Removes a file; none is no error. */
  remove(path: string): void;
}

/** The machine's files. */
export const nodeRecordFiles: RecordFiles = {
  write: (path, text) => writeFileSync(path, text),
  rename: (from, to) => renameSync(from, to),
  remove: (path) => rmSync(path, { force: true }),
};

import { closeSync, openSync } from "node:fs";
import { libc } from "../libc.ts";

const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;

/** Gives the disk blocks of a part of a file back; it reads as zeros afterwards. Gives false where that is not possible. */
export function punchHole(path: string, offset: number, length: number): boolean {
  const { fallocate } = libc();
  if (fallocate === undefined) return false;
  try {
    const file = openSync(path, "r+");
    try {
      return fallocate(file, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, offset, length) === 0;
    } finally {
      closeSync(file);
    }
  } catch {
    return false;
  }
}

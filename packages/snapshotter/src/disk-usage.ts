import { lstat, opendir } from "node:fs/promises";
import { join } from "node:path";
import type { Usage } from "./snapshot.ts";

const BLOCK_BYTES = 512;

/**
 * Disk space below a directory: allocated blocks, each inode once. Only for directories on a local disk. Files that
 * disappear meanwhile are no error.
 */
export async function diskUsage(folder: string, signal?: AbortSignal): Promise<Usage> {
  const seen = new Set<string>();
  let bytes = 0;
  const pending = [folder];
  for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
    signal?.throwIfAborted();
    const stat = await lstat(path).catch(() => undefined);
    if (stat === undefined) continue;
    const inode = `${stat.dev}:${stat.ino}`;
    if (!seen.has(inode)) {
      seen.add(inode);
      bytes += stat.blocks * BLOCK_BYTES;
    }
    if (!stat.isDirectory()) continue;
    const directory = await opendir(path).catch(() => undefined);
    if (directory === undefined) continue;
    for await (const entry of directory) pending.push(join(path, entry.name));
  }
  return { bytes, inodes: seen.size };
}

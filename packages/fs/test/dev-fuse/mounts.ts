import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { readMountTable } from "../../src/dev-fuse/mount-table.ts";
import { loadSystemCalls } from "../../src/dev-fuse/system-calls.ts";

const MNT_DETACH = 2;
const folders: string[] = [];

/** A folder for mounts, sockets and data files of a test. */
export function testFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "ezd-"));
  folders.push(folder);
  return folder;
}

/** Removes every mount below the folders of this test, and the folders. Never asks a mounted file system anything. */
export function cleanUp(): void {
  const systemCalls = loadSystemCalls();
  for (const folder of folders.splice(0)) {
    for (let pass = 0; pass < 20; pass += 1) {
      const mounts = readMountTable().filter((entry) => entry.mountPath.startsWith(`${folder}/`));
      if (mounts.length === 0) break;
      for (const { mountPath } of mounts.toReversed()) systemCalls.unmount(mountPath, MNT_DETACH);
    }
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Polls until something holds. Fails after two minutes. */
export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const begun = Date.now(); Date.now() - begun < 120_000; await sleep(10)) {
    if (await holds()) return;
  }
  throw new Error(`still not: ${what}`);
}

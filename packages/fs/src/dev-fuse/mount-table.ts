import { readFileSync, writeFileSync } from "node:fs";

/** A line of the mount table. */
export interface MountEntry {
  /** Device number as `major:minor`. */
  readonly device: string;
  readonly mountPath: string;
  /** Like `fuse.estargz`. */
  readonly type: string;
}

/** Reads the mount table of this process. Asks nothing of the mounted file systems, so it never waits for one. */
export function readMountTable(): readonly MountEntry[] {
  return parseMountInfo(readFileSync("/proc/self/mountinfo", "utf8"));
}

/** Parses mountinfo as proc_pid_mountinfo(5) has it. */
export function parseMountInfo(text: string): readonly MountEntry[] {
  const entries: MountEntry[] = [];
  for (const line of text.split("\n")) {
    const [front = "", back = ""] = line.split(" - ", 2);
    const [, , device, , mountPath] = front.split(" ");
    const [type] = back.split(" ");
    if (device === undefined || mountPath === undefined || type === undefined) continue;
    entries.push({ device, mountPath: unescapePath(mountPath), type });
  }
  return entries;
}

function unescapePath(path: string): string {
  return path.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** The mount at a path: the uppermost if there are several. */
export function findMount(mountPath: string): MountEntry | undefined {
  return readMountTable().findLast((entry) => entry.mountPath === mountPath);
}

/** Raises the read-ahead of a mounted file system. False where that is not allowed. */
export function setReadAhead(device: string, kibibytes: number): boolean {
  try {
    writeFileSync(`/sys/class/bdi/${device}/read_ahead_kb`, String(kibibytes));
    return true;
  } catch {
    return false;
  }
}

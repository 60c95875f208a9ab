import { readFile, writeFile } from "node:fs/promises";

/**
 * Turns the kernel's read-ahead off for the file systems that hold `paths`, so that only what a program touches is read. Needs
 * root; where it fails, more is read than touched.
 */
export async function turnReadAheadOff(paths: readonly string[]): Promise<void> {
  const mounts = (await readFile("/proc/self/mountinfo", "utf8")).split("\n").map((line) => line.split(" "));
  const devices = new Set<string>();
  for (const path of paths) {
    const holding = mounts.filter(([, , , , point]) => point !== undefined && (path === point || path.startsWith(`${point}/`)));
    const device = holding.toSorted((a, b) => (a[4] ?? "").length - (b[4] ?? "").length).at(-1)?.[2];
    if (device !== undefined) devices.add(device);
  }
  for (const device of devices) await writeFile(`/sys/class/bdi/${device}/read_ahead_kb`, "0").catch(() => undefined);
}

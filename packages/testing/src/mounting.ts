import { dirname } from "node:path";
import { runCommand } from "./containerd.ts";
import type { MountUnderTest } from "./snapshotter-under-test.ts";

/** The longest folder that holds all `paths`. */
function commonFolder(paths: readonly string[]): string {
  let folder = dirname(paths[0] ?? "/");
  while (!paths.every((path) => path.startsWith(folder === "/" ? "/" : `${folder}/`))) folder = dirname(folder);
  return folder;
}

/**
 * Options with `lowerdir` made relative to a folder that holds all of them, as containerd does it: the kernel takes no more
 * than a page of options.
 */
function shortened(options: readonly string[]): { options: readonly string[]; cwd: string } {
  const lowerdir = options.find((option) => option.startsWith("lowerdir="));
  const lowers = lowerdir?.slice("lowerdir=".length).split(":") ?? [];
  if (lowers.length < 2 || options.join(",").length < 4000) return { options, cwd: "/" };
  const folder = commonFolder(lowers);
  const relative = lowers.map((lower) => lower.slice(folder.length + (folder === "/" ? 0 : 1)));
  return { options: options.map((option) => (option === lowerdir ? `lowerdir=${relative.join(":")}` : option)), cwd: folder };
}

/** Mounts what a snapshotter described on `target`. Needs root. */
export async function mountAll(mounts: readonly MountUnderTest[], target: string): Promise<void> {
  for (const mount of mounts) {
    const { options, cwd } = shortened(mount.options);
    const bind = options.includes("rbind") || options.includes("bind");
    const args = bind ? ["-o", options.join(",")] : ["-t", mount.type, "-o", options.join(",")];
    const result = await runCommand("env", ["-C", cwd, "mount", ...args, mount.source, target]);
    if (result.code !== 0) throw new Error(`mount ${JSON.stringify(mount)} on ${target}: ${result.stderr}`);
  }
}

/** Takes a mount away; nothing mounted is no error. */
export async function unmount(target: string): Promise<void> {
  await runCommand("umount", ["-l", target]);
}

import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { EstargzError } from "@estargz/interface";
import { runQuietly } from "./child.ts";

/** A mounted overlay. */
export interface Overlay {
  readonly path: string;
  /** Takes the mount away. Idempotent. */
  unmount(): Promise<void>;
}

/** Options of {@link mountOverlay}. */
export interface OverlayOptions {
  /** Layer directories, the lowest first. */
  readonly lower: readonly string[];
  /** Where it is shown. Made if it is missing. */
  readonly target: string;
  /** Folder for what is written; without it the mount is read-only. */
  readonly scratch?: string | undefined;
}

/** The longest common folder of several paths. */
function commonFolder(paths: readonly string[]): string {
  const folders = new Set(paths.map((path) => dirname(path)));
  const [only] = folders;
  return folders.size === 1 && only !== undefined ? only : "/";
}

async function mount(source: string, type: string, options: string, target: string, cwd: string): Promise<void> {
  const { code, output } = await runQuietly("mount", ["-t", type, "-o", options, source, target], { cwd });
  if (code === 0) return;
  if (process.getuid?.() !== 0) throw new EstargzError("PERMISSION_DENIED", `${target} cannot be mounted without root`);
  throw new EstargzError("MOUNT_FAILED", `the layers cannot be mounted on ${target}: ${output || `mount ended with ${code}`}`);
}

async function unmount(target: string): Promise<void> {
  const { code } = await runQuietly("umount", [target]);
  // Somebody is still in it: it goes away with its last user.
  if (code !== 0) await runQuietly("umount", ["--lazy", target]);
}

/**
 * Puts the layers of an image together with overlayfs.
 *
 * @throws `MOUNT_FAILED`, `PERMISSION_DENIED` without root.
 */
export async function mountOverlay(options: OverlayOptions): Promise<Overlay> {
  const { lower, target, scratch } = options;
  await mkdir(target, { recursive: true });
  let mounted = true;
  const result: Overlay = {
    path: target,
    async unmount() {
      if (!mounted) return;
      mounted = false;
      await unmount(target);
    },
  };
  // Relative names keep the option string of an image with many layers within its one page.
  const folder = commonFolder(lower);
  const names = lower.map((path) => (folder === "/" ? path : path.slice(folder.length + 1))).toReversed();
  if (scratch === undefined && names.length === 1) {
    await mount(lower[0] ?? "", "none", "bind,ro", target, "/");
    return result;
  }
  const parts = [`lowerdir=${names.join(":")}`];
  if (scratch !== undefined) {
    const [upper, work] = [join(scratch, "upper"), join(scratch, "work")];
    await Promise.all([mkdir(upper, { recursive: true }), mkdir(work, { recursive: true })]);
    parts.push(`upperdir=${upper}`, `workdir=${work}`);
  }
  await mount("overlay", "overlay", parts.join(","), target, folder);
  return result;
}

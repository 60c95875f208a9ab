import { chmod, lchown, link, lstat, mkdir, readdir, readFile, readlink, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

/** A change that is made to a directory tree. */
export type TreeChange = (root: string) => Promise<void>;

/** Makes or overwrites a file. */
export function file(path: string, content: string, mode: number): TreeChange {
  return async (root) => {
    await writeFile(join(root, path), content);
    await chmod(join(root, path), mode);
  };
}

/** Makes a directory. */
export function directory(path: string, mode: number): TreeChange {
  return async (root) => {
    await mkdir(join(root, path), { recursive: true });
    await chmod(join(root, path), mode);
  };
}

/** Removes a file or a tree. */
export function removed(path: string): TreeChange {
  return (root) => rm(join(root, path), { recursive: true, force: true });
}

/** Changes the owner. */
export function owned(path: string, uid: number, gid: number): TreeChange {
  return (root) => lchown(join(root, path), uid, gid);
}

/** Makes a hard link. */
export function linked(from: string, to: string): TreeChange {
  return (root) => link(join(root, from), join(root, to));
}

/** Renames a file, or a directory by copying its name as overlayfs without `redirect_dir` makes programs do. */
export function renamed(from: string, to: string): TreeChange {
  return async (root) => {
    try {
      await rename(join(root, from), join(root, to));
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "EXDEV")) throw error;
      const stat = await lstat(join(root, from));
      await mkdir(join(root, to), { mode: stat.mode & 0o7777 });
      for (const name of await readdir(join(root, from))) await rename(join(root, from, name), join(root, to, name));
      await rm(join(root, from), { recursive: true });
    }
  };
}

/** Several changes, one after the other. */
export function changes(...all: readonly TreeChange[]): TreeChange {
  return async (root) => {
    for (const change of all) await change(root);
  };
}

/** A tree as text, one line an entry: path, type, mode, owner, content. The root itself is left out. */
export async function describeTree(root: string, path = ""): Promise<string[]> {
  const lines: string[] = [];
  for (const name of (await readdir(join(root, path))).sort()) {
    const at = path === "" ? name : `${path}/${name}`;
    const stat = await lstat(join(root, at));
    const common = `/${at} ${(stat.mode & 0o7777).toString(8)} ${stat.uid}:${stat.gid}`;
    if (stat.isDirectory()) lines.push(`${common} dir`, ...(await describeTree(root, at)));
    else if (stat.isSymbolicLink()) lines.push(`${common} -> ${await readlink(join(root, at))}`);
    else if (stat.isFile()) lines.push(`${common} ${stat.nlink} ${JSON.stringify(await readFile(join(root, at), "utf8"))}`);
    else lines.push(`${common} special ${stat.rdev}`);
  }
  return lines;
}

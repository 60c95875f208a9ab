import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { lstat, readdir, readlink } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { runProgram, startProgram } from "./run-program.ts";

/** What was compared, and what differs. */
export interface Comparison {
  readonly names: number;
  readonly bytes: number;
  readonly hardLinks: number;
  readonly xattrs: number;
  /** One line for each difference; empty for equal trees. */
  readonly differences: readonly string[];
}

interface Tree {
  readonly names: Map<string, string>;
  bytes: number;
  hardLinks: number;
}

async function contentDigest(path: string, signal: AbortSignal): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash, { signal });
  return hash.digest("hex");
}

async function walk(root: string, signal: AbortSignal): Promise<Tree> {
  const tree: Tree = { names: new Map(), bytes: 0, hardLinks: 0 };
  const linked = new Map<string, string>();
  const visit = async (path: string): Promise<void> => {
    signal.throwIfAborted();
    const full = join(root, path);
    const status = await lstat(full, { bigint: true });
    const facts: (string | bigint)[] = [status.mode.toString(8), status.uid, status.gid];
    // The layers say nothing about the root itself: an unpacker makes it when it unpacks.
    if (path !== "") facts.push(status.mtimeNs);
    // The size and link count of a directory belong to the file system below, not to the image.
    if (!status.isDirectory()) facts.push(status.size, status.nlink);
    if (status.isSymbolicLink()) facts.push(await readlink(full));
    if (status.isCharacterDevice() || status.isBlockDevice()) facts.push(status.rdev);
    if (status.isFile()) {
      const inode = String(status.ino);
      const first = status.nlink > 1n ? linked.get(inode) : undefined;
      if (first === undefined) {
        facts.push(await contentDigest(full, signal));
        tree.bytes += Number(status.size);
        if (status.nlink > 1n) linked.set(inode, path);
      } else {
        facts.push(`a name of ${first}`);
        tree.hardLinks += 1;
      }
    }
    tree.names.set(path, facts.join(" "));
    if (!status.isDirectory()) return;
    for (const name of (await readdir(full)).sort()) await visit(path === "" ? name : `${path}/${name}`);
  };
  await visit("");
  return tree;
}

/** Every extended attribute of a tree but the overlay's own, as text. */
async function xattrsOf(root: string): Promise<string[]> {
  const args = ["--recursive", "--physical", "--dump", "--absolute-names", "--encoding=hex", "--match=^(user|security|trusted)\\.", "."];
  const program = startProgram("getfattr", args, { cwd: root });
  const code = await program.exited;
  // A layer without any xattr answers that it knows none, which getfattr complains of and goes on.
  const complaints = program
    .errors()
    .split("\n")
    .filter((line) => line !== "" && !line.endsWith("Operation not supported"));
  if (complaints.length > 0) throw new Error(`getfattr ended with ${code}: ${complaints.slice(0, 5).join("; ")}`);
  return program
    .output()
    .split("\n\n")
    .map((block) =>
      block
        .split("\n")
        .filter((line) => !/^(trusted|user)\.overlay\./.test(line))
        .join("\n")
        .trim(),
    )
    .filter((block) => block.includes("\n"))
    .sort();
}

/** `diff -r` finds what our own comparison might have been written not to see. */
async function diff(left: string, right: string): Promise<string[]> {
  try {
    await runProgram("diff", ["--recursive", "--no-dereference", "--brief", left, right]);
    return [];
  } catch (error) {
    return [error instanceof Error ? error.message : String(error)];
  }
}

/**
 * Compares two trees whole: names, contents, types, modes, owners, times, sizes, symlinks, link counts (which names are one file),
 * devices and extended attributes; and once more by `diff -r`.
 */
export async function compareTrees(left: string, right: string, signal: AbortSignal): Promise<Comparison> {
  const [a, b] = await Promise.all([walk(left, signal), walk(right, signal)]);
  const differences: string[] = [];
  for (const name of new Set([...a.names.keys(), ...b.names.keys()])) {
    const [one, two] = [a.names.get(name), b.names.get(name)];
    if (one !== two) differences.push(`/${name}: ${one ?? "missing"} | ${two ?? "missing"}`);
  }
  const [xattrsA, xattrsB] = await Promise.all([xattrsOf(left), xattrsOf(right)]);
  if (xattrsA.join("\n\n") !== xattrsB.join("\n\n")) {
    const inOne = [...xattrsA.filter((block) => !xattrsB.includes(block)), ...xattrsB.filter((block) => !xattrsA.includes(block))];
    differences.push(...inOne.map((block) => `extended attributes: ${block.replaceAll("\n", " ")}`));
  }
  differences.push(...(await diff(left, right)));
  return { names: a.names.size, bytes: a.bytes, hardLinks: a.hardLinks, xattrs: xattrsA.length, differences };
}

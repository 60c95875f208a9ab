import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runCommand } from "./containerd.ts";
import { makeHugeDirectory, makePosixTree, mustRun, type PosixTree } from "./posix-tree.ts";

/** What an implementation may lack; each lack is skipped by name. */
export type PosixLack =
  | "hard link identity"
  | "dots and inode numbers in listings"
  | "ERANGE for small attribute buffers"
  | "ENAMETOOLONG"
  | "huge directory";

/** Options of {@link posixReadSuite}. */
export interface PosixReadSuiteOptions {
  /** Shows the tree of a tar as a read-only file system; gives its root. */
  mount(tarPath: string): Promise<string>;
  /** Takes away everything that was shown. */
  unmount(): Promise<void>;
  /** Whether the tree has extended attributes. */
  readonly xattrs: boolean;
  readonly lacks?: readonly PosixLack[] | undefined;
  /** Names in the huge directory. Default 100,000. */
  readonly hugeEntries?: number | undefined;
}

/**
 * Compares a mounted tree with what GNU tar makes of the same tar on the local file system: all that a reader can see, by
 * every way there is to read it. Needs root, GNU tar, gcc and the package attr.
 */
export function posixReadSuite(name: string, options: PosixReadSuiteOptions): void {
  describe(name, () => {
    let folder = "";
    let probe = "";
    let tree: PosixTree;
    let mounted = "";
    const lacks = (lack: PosixLack): boolean => options.lacks?.includes(lack) ?? false;

    beforeAll(async () => {
      folder = await mkdtemp(join(tmpdir(), "posix-"));
      probe = join(folder, "probe");
      await mustRun(`gcc -O2 -o ${probe} ${fileURLToPath(new URL("../src/posix-probe.c", import.meta.url))}`);
      tree = await makePosixTree(folder, options.xattrs);
      mounted = await options.mount(tree.tarPath);
    });

    afterAll(async () => {
      await options.unmount();
      if (folder !== "") await rm(folder, { recursive: true, force: true });
    });

    const describeTree = async (root: string, ...args: string[]): Promise<string> => {
      const [kind = "", ...rest] = args;
      const { stdout } = await runCommand(probe, [kind, root, ...rest]);
      return stdout;
    };
    const expectSame = async (...args: string[]): Promise<void> => {
      const wanted = await describeTree(tree.unpacked, ...args);
      expect(wanted).not.toContain("FAILED");
      expect((await describeTree(mounted, ...args)).split("\n")).toEqual(wanted.split("\n"));
    };

    it("has the same names, types, modes, owners, times, sizes, devices and targets", async () => {
      await expectSame("attributes");
    });

    it("has them again, from the kernel's caches", async () => {
      await expectSame("attributes");
    });

    it("has the same hard links", async (context) => {
      if (lacks("hard link identity")) context.skip("hard links are files of their own here");
      await expectSame("links");
    });

    it("has the same extended attributes", async () => {
      if (lacks("ERANGE for small attribute buffers")) await expectSame("xattrs", "any-room");
      else await expectSame("xattrs");
    });

    it.each(["direct", "pread", "mmap", "sendfile", "read"])("has the same bytes by %s", async (method) => {
      await expectSame("content", method);
    });

    it("lists directories with offsets to rewind and seek to", async () => {
      if (lacks("dots and inode numbers in listings")) await expectSame("listing", "without-inodes");
      else await expectSame("listing");
    });

    it("refuses the same with the same errors", async () => {
      const shown = async (root: string): Promise<string[]> =>
        (await describeTree(root, "errors")).split("\n").filter((line) => !lacks("ENAMETOOLONG") || !line.includes("256 bytes"));
      expect(await shown(mounted)).toEqual(await shown(tree.unpacked));
    });

    it("is read-only", async () => {
      const script = `cd ${mounted}; for try in 'touch new' 'touch plain' 'rm plain' 'mkdir new' 'mv plain other' 'ln plain other' 'chmod 1 plain' 'truncate -s 0 plain'; do $try 2>&1 | grep -c 'Read-only file system'; done`;
      expect((await runCommand("sh", ["-c", script])).stdout).toBe("1\n".repeat(8));
    });

    it("follows permissions of other users", async () => {
      // From within the tree: the folders above it are closed to others.
      const script = "cat plain; cat modes/f0000 2>&1; ls modes/d0700 2>&1; cat modes/f0444; ls . >/dev/null 2>&1 || echo closed";
      const asNobody = async (root: string): Promise<string> =>
        mustRun(`cd ${root} && setpriv --reuid=65534 --regid=65534 --clear-groups sh -c '${script}'`);
      expect(await asNobody(mounted)).toBe(await asNobody(tree.unpacked));
    });

    it("makes the same archive", async (context) => {
      if (lacks("hard link identity")) context.skip("hard links are files of their own here");
      const list = async (root: string): Promise<string> =>
        mustRun(`tar --numeric-owner --sort=name --format=gnu -cf - -C ${root} . | sha256sum`);
      expect(await list(mounted)).toBe(await list(tree.unpacked));
    });

    it("lists a directory of very many names", async (context) => {
      if (lacks("huge directory")) context.skip("very many names are too slow here");
      const huge = await makeHugeDirectory(folder, options.hugeEntries ?? 100_000);
      const root = await options.mount(huge.tarPath);
      const wanted = await describeTree(huge.unpacked, "listing");
      expect(wanted).toContain(`./d ${options.hugeEntries ?? 100_000}\n`);
      expect(await describeTree(root, "listing")).toBe(wanted);
      const sum = async (path: string): Promise<string> =>
        mustRun(`find ${path} -printf '%y %m %s %T@ %P\\n' | grep -v '^d' | sort | sha256sum`);
      expect(await sum(root)).toBe(await sum(huge.unpacked));
    });
  });
}

import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { startContainerd, waitForSocket } from "@estargz/testing";
import { unlessInterrupted } from "./interruption.ts";
import { estargzSnapshotter } from "./own-programs.ts";
import { lastWords, type Program, runProgram, startProgram } from "./run-program.ts";
import type { StartedImage, StartOptions } from "./started-image.ts";

async function startSnapshotter(folder: string, registry: string, options: StartOptions): Promise<string> {
  const socket = join(folder, "s.sock");
  const config = join(folder, "config.toml");
  // The reference's key for a registry without TLS; nothing of this daemon is to outlive the demo.
  await writeFile(
    config,
    `[snapshotter]\nunmount_on_exit = true\n\n[[resolver.host."${registry}".mirrors]]\nhost = "${registry}"\ninsecure = true\n`,
  );
  const args = ["--address", socket, "--root", join(folder, "snapshots"), "--config", config];
  const program = estargzSnapshotter(args);
  options.resources.add("estargz-snapshotter", () => program.stop());
  const alive = (): boolean => program.child.exitCode === null && program.child.signalCode === null;
  try {
    await unlessInterrupted(options.signal, waitForSocket(socket, { alive }));
  } catch (error) {
    options.signal.throwIfAborted();
    throw new Error(`estargz-snapshotter did not start: ${lastWords(program.errors())}`, { cause: error });
  }
  return socket;
}

async function finish(program: Program, what: string, signal: AbortSignal): Promise<void> {
  const code = await unlessInterrupted(signal, program.exited);
  if (code !== 0) throw new Error(`${what} ended with ${code}: ${lastWords(program.errors())}`);
}

/**
 * Starts an image under a containerd that has nothing of it, until the container's first line: by a full pull with the
 * overlayfs snapshotter, or lazily with ours. The same client does both.
 */
export async function startUnderContainerd(options: StartOptions): Promise<StartedImage> {
  const { link, image, lazy, resources, signal } = options;
  const folder = await resources.make(
    "a folder",
    () => mkdtemp(join(options.folder, lazy ? "l" : "f")),
    (path) => rm(path, { recursive: true, force: true, maxRetries: 5 }),
  );
  const reference = `${link.address}/${image}`;
  const snapshotter = lazy ? "estargz" : "overlayfs";
  const snapshotters = lazy ? { estargz: await startSnapshotter(folder, link.address, options) } : undefined;
  const containerd = await resources.make(
    "containerd",
    () => startContainerd({ folder: join(folder, "c"), snapshotters }),
    (made) => made.stop(),
  );
  signal.throwIfAborted();
  const ctr = (name: string, args: readonly string[]): Program => {
    const program = startProgram("ctr-remote", ["--address", containerd.address, "--namespace", containerd.namespace, ...args]);
    resources.add(name, () => program.stop("SIGKILL"));
    return program;
  };
  const before = await link.statistics();
  const startedAt = performance.now();
  await finish(ctr("pull", ["images", "rpull", "--plain-http", "--snapshotter", snapshotter, reference]), `pulling ${reference}`, signal);
  const pulledAt = performance.now();
  const container = ctr("container", ["run", "--rm", "--net-host", "--snapshotter", snapshotter, reference, "demo"]);
  const firstLine = await unlessInterrupted(signal, container.line());
  const readyAt = performance.now();
  const after = await link.statistics();
  await finish(container, "the container", signal);
  return {
    measurement: {
      seconds: (readyAt - startedAt) / 1000,
      pullSeconds: (pulledAt - startedAt) / 1000,
      bytes: after.bytesDown - before.bytesDown,
      requests: after.requests - before.requests,
    },
    firstLine,
    async mountTree() {
      const path = join(folder, "tree");
      await mkdir(path);
      const snapshots = (args: readonly string[]): Promise<string> =>
        containerd.ctr(["snapshots", "--snapshotter", snapshotter, ...args], { signal }).then(({ stdout }) => stdout);
      // Unlike a view, a prepared snapshot is a root of containerd's garbage collection.
      await snapshots(["prepare", "tree", topSnapshot(await snapshots(["ls"]))]);
      // Prints the mount command.
      const [command = "", ...args] = (await snapshots(["mounts", path, "tree"])).trim().split(/\s+/);
      resources.add("a mount", () => runProgram("umount", [path]).catch(() => runProgram("umount", ["--lazy", path])));
      await runProgram(command, args);
      return path;
    },
  };
}

/** The committed snapshot that no other one stands on. */
function topSnapshot(list: string): string {
  const rows = list
    .trim()
    .split("\n")
    .slice(1)
    .map((line) => line.trim().split(/\s+/));
  const parents = new Set(rows.filter((row) => row.length === 3).map(([, parent]) => parent));
  const top = rows.find((row) => row.at(-1) === "Committed" && !parents.has(row[0]))?.[0];
  if (top === undefined) throw new Error(`no snapshot of the image is there: ${list}`);
  return top;
}

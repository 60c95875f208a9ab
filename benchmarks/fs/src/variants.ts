import { type ChildProcess, execFileSync, fork, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { DriverStatistics } from "@estargz/fs";
import type { Tree } from "./tree.ts";

/** One way to show the tree. */
export interface Variant {
  readonly name: string;
  /** Shows the tree, with nothing of it in the kernel's caches of names and pages of this mount. */
  mount(): Promise<Mounted>;
}

/** A tree that is shown. */
export interface Mounted {
  readonly path: string;
  /** Requests that reached the server; `undefined` where that is not counted. */
  requests(): Promise<number | undefined>;
  /** Processor time of the server so far, in seconds. */
  cpuSeconds(): number;
  unmount(): Promise<void>;
}

let mounts = 0;

function freshMountPoint(folder: string): string {
  mounts += 1;
  const path = join(folder, `m${mounts}`);
  mkdirSync(path);
  return path;
}

function cpuOf(pid: number | undefined): number {
  if (pid === undefined) return 0;
  const fields = readFileSync(`/proc/${pid}/stat`, "latin1").split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

async function stop(child: ChildProcess, signal: () => void): Promise<void> {
  const exited = once(child, "exit");
  signal();
  await exited;
}

/** A driver of @estargz/fs in a process of its own. */
export function driverVariant(
  folder: string,
  tree: Tree,
  driver: "dev-fuse" | "fuse-native",
  name: string = driver,
  indexPath = tree.indexPath,
): Variant {
  return {
    name,
    async mount() {
      const start = { driver, mountRoot: freshMountPoint(folder), indexPath, dataPath: tree.dataPath };
      const child = fork(fileURLToPath(new URL("./server-process.ts", import.meta.url)), [JSON.stringify(start)], {
        execArgv: ["--no-memory-protection-keys", "--wasm-wrapper-tiering-budget=1000000000", "--conditions=@estargz/source"],
      });
      const [{ path }] = (await once(child, "message")) as [{ path: string }];
      return {
        path,
        async requests() {
          child.send("statistics");
          const [statistics] = (await once(child, "message")) as [DriverStatistics];
          return Object.values(statistics.requests).reduce((sum, count) => sum + count, 0);
        },
        cpuSeconds: () => cpuOf(child.pid),
        unmount: () => stop(child, () => child.send("close")),
      };
    },
  };
}

/** The server in C. */
export function peerVariant(folder: string, tree: Tree, program: string): Variant {
  return {
    name: "C server",
    async mount() {
      const mountPoint = freshMountPoint(folder);
      const child = spawn(
        program,
        [tree.indexPath, tree.dataPath, String(tree.largeInode), `${tree.dataPath}.${tree.largeInode}`, mountPoint],
        {
          stdio: ["ignore", "pipe", "inherit"],
        },
      );
      await once(child.stdout, "data");
      return {
        path: join(mountPoint, "1"),
        requests: async () => undefined,
        cpuSeconds: () => cpuOf(child.pid),
        unmount: () => stop(child, () => execFileSync("umount", [mountPoint])),
      };
    },
  };
}

/** The unpacked tree itself. */
export function nativeVariant(tree: Tree): Variant {
  return {
    name: "ext4",
    mount: async () => ({ path: tree.nativePath, requests: async () => 0, cpuSeconds: () => 0, unmount: async () => {} }),
  };
}

/** An overlay over what another variant shows. */
export function overlayVariant(folder: string, below: Variant): Variant {
  return {
    name: `overlay on ${below.name}`,
    async mount() {
      const lower = await below.mount();
      const mountPoint = freshMountPoint(folder);
      for (const part of ["upper", "work", "merged"]) mkdirSync(join(mountPoint, part));
      const options = `lowerdir=${lower.path},upperdir=${join(mountPoint, "upper")},workdir=${join(mountPoint, "work")}`;
      execFileSync("mount", ["-t", "overlay", "overlay", "-o", options, join(mountPoint, "merged")]);
      return {
        ...lower,
        path: join(mountPoint, "merged"),
        async unmount() {
          execFileSync("umount", [join(mountPoint, "merged")]);
          await lower.unmount();
        },
      };
    },
  };
}

/** Compiles the programs in C. */
export function compile(folder: string): { readonly server: string; readonly client: string } {
  const source = dirname(fileURLToPath(new URL("../c/server.c", import.meta.url)));
  const [server, client] = [join(folder, "server"), join(folder, "client")];
  execFileSync("gcc", ["-O2", "-o", server, join(source, "server.c")]);
  execFileSync("gcc", ["-O2", "-o", client, join(source, "client.c"), "-lpthread"]);
  return { server, client };
}

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { Worker } from "node:worker_threads";
import { file } from "@estargz/format";
import { type DockerRegistry, nodeFlags, startDockerRegistry, waitForSocket } from "@estargz/testing";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { connectSnapshotter, parseConfig, startSnapshotter } from "../src/index.ts";
import { type PushedImage, pushImage } from "./images.ts";

const MAIN = fileURLToPath(new URL("../../../examples/snapshotter/src/main.ts", import.meta.url));
const CONFIG = ["docker_keychain.enable_keychain = false", 'resolver.config_path = ""', "snapshotter.unmount_on_exit = true"];

let registry: DockerRegistry;
let image: PushedImage;
let folder: string;
let address: string;
const children = new Set<ChildProcess>();

beforeAll(async () => {
  registry = await startDockerRegistry();
  image = await pushImage({ reference: `${registry.address}/failure:1`, layers: [[file("name", "content\n")]] });
});
afterAll(() => registry?.close());
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "estargz-failure-"));
  address = join(folder, "sn.sock");
});
afterEach(async () => {
  for (const child of children) child.kill("SIGKILL");
  children.clear();
  // A mount that nobody serves would keep who looks into it waiting for ever.
  for (const path of mounts().reverse()) await promisify(execFile)("umount", ["-l", path]);
  await rm(folder, { recursive: true, force: true });
});

/** Places under the test's folder where something is mounted. */
function mounts(): string[] {
  const lines = readFileSync("/proc/self/mounts", "utf8").split("\n");
  return lines.map((line) => line.split(" ")[1] ?? "").filter((path) => path.startsWith(folder));
}

/** Shows a layer, and so knows that the threads of the file system are at work: one that is still starting can't be ended alone. */
async function showLayer(): Promise<void> {
  const client = connectSnapshotter({ address });
  const [layer] = image.layers;
  const labels = {
    "containerd.io/snapshot.ref": "chain",
    "containerd.io/snapshot/cri.image-ref": image.reference,
    "containerd.io/snapshot/cri.layer-digest": String(layer?.digest),
    "containerd.io/snapshot/cri.image-layers": String(layer?.digest),
    ...layer?.annotations,
  };
  await expect(client.prepare({ key: "layer", parent: "", labels })).rejects.toMatchObject({ code: "ALREADY_EXISTS" });
  await client.close();
}

const isOfFileSystem = (worker: Worker): boolean => worker.threadName?.startsWith("estargz-fuse") === true;

describe("a snapshotter whose file system has lost a thread", () => {
  it("is not healthy, and says so", async () => {
    const workers: Worker[] = [];
    const collect = (worker: Worker): void => {
      workers.push(worker);
    };
    process.on("worker", collect);
    const config = parseConfig([...CONFIG, 'metrics_address = "127.0.0.1:0"'].join("\n"));
    const daemon = await startSnapshotter({ address, root: join(folder, "sn"), config });
    try {
      process.off("worker", collect);
      const health = async (): Promise<number> => (await fetch(`http://${String(daemon.metricsAddress)}/healthz`)).status;
      await showLayer();
      expect(await health()).toBe(200);
      for (const worker of workers.filter(isOfFileSystem)) void worker.terminate();
      expect(await daemon.failed).toBeInstanceOf(Error);
      expect(await health()).toBe(503);
    } finally {
      await daemon.close();
    }
  });

  it("ends with an error code, and leaves the mounts to the next one", async () => {
    const config = join(folder, "config.toml");
    await writeFile(config, CONFIG.join("\n"));
    const script = `const workers = []; process.on("worker", (worker) => workers.push(worker));
      process.on("SIGUSR2", () => { for (const worker of workers.filter(${String(isOfFileSystem)})) worker.terminate(); });`;
    const preload = `--import=data:text/javascript,${encodeURIComponent(script)}`;
    const options = ["--address", address, "--root", join(folder, "sn"), "--config", config];
    const args = [...nodeFlags, "--conditions=@estargz/source", preload, MAIN, ...options];
    let log = "";
    const start = async (): Promise<ChildProcess> => {
      const child = spawn(process.execPath, args, { stdio: ["ignore", "ignore", "pipe"] });
      children.add(child);
      child.stderr?.setEncoding("utf8").on("data", (text: string) => {
        log += text;
      });
      await waitForSocket(address, { alive: () => child.exitCode === null });
      return child;
    };
    const first = await start();
    await showLayer();
    const failed = once(first, "close");
    first.kill("SIGUSR2");
    expect(await failed).toEqual([1, null]);
    expect(log).toContain("a thread of the file system ended");
    // The layer is still mounted, for the next process.
    expect(mounts()).not.toEqual([]);
    const second = await start();
    const ended = once(second, "close");
    second.kill("SIGTERM");
    expect(await ended).toEqual([0, null]);
    expect(mounts()).toEqual([]);
  });
});

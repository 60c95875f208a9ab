import { readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { directory, file } from "@estargz/format";
import { isEstargzError } from "@estargz/interface";
import { type DockerRegistry, startDockerRegistry } from "@estargz/testing";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { connectSnapshotter, parseConfig, type Snapshotter, type SnapshotterDaemon, startSnapshotter } from "../src/index.ts";
import { type PushedImage, pushImage } from "./images.ts";

const CYCLES = 1000;
const AT_ONCE = 4;

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

let registry: DockerRegistry;
let folder: string;
let daemon: SnapshotterDaemon;
let client: Snapshotter;
let images: PushedImage[];

beforeAll(async () => {
  registry = await startDockerRegistry();
  images = [];
  for (let index = 0; index < AT_ONCE; index += 1) {
    const layers = [[directory("d"), file("d/name", `image ${index}\n`)], [file("top", `top ${index}\n`)]];
    images.push(await pushImage({ reference: `${registry.address}/leak-${index}:1`, layers }));
  }
  folder = await mkdtemp(join(tmpdir(), "estargz-leaks-"));
  const toml = ["docker_keychain.enable_keychain = false", 'resolver.config_path = ""', "snapshotter.unmount_on_exit = true"].join("\n");
  daemon = await startSnapshotter({ address: join(folder, "sn.sock"), root: join(folder, "sn"), config: parseConfig(toml) });
  client = connectSnapshotter({ address: daemon.address });
});
afterAll(async () => {
  await client?.close();
  await daemon?.close();
  await registry?.close();
  if (folder !== undefined) await rm(folder, { recursive: true, force: true });
});

/** What an image's life does: lazy layers, a container's snapshot, its commit, and all of it removed again. */
async function cycle(image: PushedImage, number: number): Promise<void> {
  let parent = "";
  const names: string[] = [];
  for (const [index, layer] of image.layers.entries()) {
    const ref = `${image.reference} chain ${index}`;
    const labels = {
      "containerd.io/snapshot.ref": ref,
      "containerd.io/snapshot/cri.image-ref": image.reference,
      "containerd.io/snapshot/cri.layer-digest": layer.digest,
      "containerd.io/snapshot/cri.image-layers": image.layers.map((each) => each.digest).join(","),
      ...layer.annotations,
    };
    // Not by expect().rejects, which keeps what it saw until the test ends.
    const answer: unknown = await client.prepare({ key: `${ref} ${number}`, parent, labels }).catch((error: unknown) => error);
    if (!isEstargzError(answer, "ALREADY_EXISTS")) throw new Error(`${ref} was not mounted lazily`, { cause: answer });
    names.push(ref);
    parent = ref;
  }
  await client.prepare({ key: `container ${image.reference} ${number}`, parent });
  await client.commit({ key: `container ${image.reference} ${number}`, name: `changes ${image.reference} ${number}` });
  await client.remove(`changes ${image.reference} ${number}`);
  for (const name of names.toReversed()) await client.remove(name);
  if (number % 50 === 0) await client.cleanup();
}

interface Held {
  readonly mounts: number;
  readonly descriptors: number;
  readonly entries: number;
  readonly heapMiB: number;
}

function entriesBelow(path: string): number {
  return readdirSync(path, { recursive: true }).length;
}

async function held(): Promise<Held> {
  await client.cleanup();
  collectGarbage();
  const { heapUsed, external } = process.memoryUsage();
  return {
    mounts: readFileSync("/proc/self/mounts", "utf8")
      .split("\n")
      .filter((line) => line.includes(folder)).length,
    descriptors: readdirSync("/proc/self/fd").length,
    // The mounts themselves are left out: they are looked at by the kernel's list.
    entries: entriesBelow(join(folder, "sn", "snapshotter")) + entriesBelow(join(folder, "sn", "layers")),
    heapMiB: (heapUsed + external) / 2 ** 20,
  };
}

async function run(cycles: number, from: number): Promise<void> {
  await Promise.all(
    images.map(async (image) => {
      for (let index = 0; index < cycles / images.length; index += 1) await cycle(image, from + index);
    }),
  );
}

describe("after 1,000 images that came and went", () => {
  it("nothing is held that was not held before", async () => {
    await run(80, 0);
    const before = await held();
    await run(CYCLES, 1000);
    const after = await held();
    expect(await client.walk()).toEqual([]);
    expect(daemon.snapshotter.counts()).toEqual({ active: 0, view: 0, committed: 0, remote: 0, fallback: 0 });
    expect(after.mounts).toBe(before.mounts);
    expect(after.entries).toBe(before.entries);
    // Connections come and go by a few; a leak would be hundreds.
    expect(after.descriptors).toBeLessThanOrEqual(before.descriptors + 16);
    expect(after.heapMiB).toBeLessThan(before.heapMiB + 24);
  });
});

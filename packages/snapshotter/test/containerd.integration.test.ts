import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { directory, file } from "@estargz/format";
import { type DockerRegistry, startDockerRegistry } from "@estargz/testing";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { commitImage, noise, pushImage, smallSystem } from "./images.ts";
import { eventually, startNode, type TestNode } from "./node.ts";

const application = [directory("app"), file("app/data", noise("application", 3_000_000)), file("app/name", "first\n")];
const other = [directory("app"), file("app/name", "second\n")];

let registry: DockerRegistry;
let node: TestNode;
beforeAll(async () => {
  registry = await startDockerRegistry();
  node = await startNode({ withContainerd: true });
});
afterAll(async () => {
  await node?.stop();
  await registry?.close();
});

/** Folders of local layer data: one for each (layer, TOC). */
async function storedLayers(): Promise<string[]> {
  const folder = join(node.daemon.root, "layers", "layers");
  return await readdir(folder).catch(() => []);
}

async function snapshots(): Promise<string[]> {
  const { stdout } = await node.containerd.ctr(["snapshots", "--snapshotter=estargz", "ls"]);
  return stdout.split("\n").slice(1).filter(Boolean);
}

async function collectGarbage(): Promise<void> {
  await node.containerd.ctr(["content", "prune", "references"]);
}

describe("containerd with the snapshotter", () => {
  it("pulls lazily with the field's client, runs, and shows the very bytes", async () => {
    const image = await pushImage({ reference: `${registry.address}/lazy:1`, layers: [smallSystem(), application] });
    await node.pull(image.reference);
    expect((await snapshots()).length).toBe(2);
    const content = (await node.containerd.ctr(["content", "ls", "-q"])).stdout;
    for (const layer of image.layers) expect(content).not.toContain(layer.digest);
    const output = await node.run(image.reference, "lazy", ["/bin/bash", "-c", "cat /etc/greeting; sha256sum < /app/data"]);
    expect(output).toBe(`hello from a lazy layer\n${createHash("sha256").update(noise("application", 3_000_000)).digest("hex")}  -\n`);
    const info = await node.containerd.ctr(["snapshots", "--snapshotter=estargz", "info", image.diffIds[0] ?? ""]);
    expect(JSON.parse(info.stdout)).toMatchObject({ Kind: "Committed", Labels: { "containerd.io/snapshot/remote": "remote snapshot" } });
  });

  it("lets containerd unpack what can't be lazy, and says why", async () => {
    const image = await pushImage({
      reference: `${registry.address}/plain:1`,
      layers: [smallSystem(), [file("plain", "x\n")]],
      plain: true,
    });
    await node.pull(image.reference);
    expect(await node.run(image.reference, "plain")).toBe("hello from a lazy layer\n");
    const top = (await snapshots()).find((line) => line.includes(image.diffIds[0] ?? "?")) ?? "";
    const info = await node.containerd.ctr(["snapshots", "--snapshotter=estargz", "info", top.split(/\s+/)[0] ?? ""]);
    expect(JSON.parse(info.stdout).Labels["containerd.io/snapshot/remote/estargz.fallback"]).toMatch(/^NO_TOC_DIGEST: .*estargz convert/);
    const log = (await node.daemon.log()).split("\n").filter((line) => line.includes("NO_TOC_DIGEST"));
    expect(log.length).toBe(2);
    expect(await node.daemon.metrics()).toMatch(/estargz_snapshotter_fallbacks_total\{code="NO_TOC_DIGEST"\} 2/);
  });

  it("executes in a running container, and commits its changes to an image by containerd's Diff service", async () => {
    const { containerd } = node;
    const reference = `${registry.address}/lazy:1`;
    await containerd.ctr(["run", "-d", "--snapshotter=estargz", reference, "changed", "/bin/sleep", "infinity"]);
    await containerd.ctr([
      "tasks",
      "exec",
      "--exec-id",
      "e1",
      "changed",
      "/bin/bash",
      "-c",
      "echo made >/app/made; rm /app/name; cat /app/made",
    ]);
    // Diff: the changes as a layer in containerd's content store.
    await containerd.ctr(["snapshots", "--snapshotter=estargz", "diff", "--keep", "--label", "test=changes", "changed"]);
    const listed = (await containerd.ctr(["content", "ls", "-q", "labels.test==changes"])).stdout.trim();
    const changes = await containerd.ctr(["content", "get", listed], { encoding: "latin1" });
    await containerd.ctr(["tasks", "rm", "-f", "changed"]);
    await containerd.ctr(["containers", "rm", "changed"]);
    // The base stays lazy, the changes are a layer like any other.
    const committed = await commitImage({
      base: await pushImage({ reference, layers: [smallSystem(), application] }),
      reference: `${registry.address}/lazy:changed`,
      layer: Buffer.from(changes.stdout, "latin1"),
    });
    expect(committed.layers.at(-1)?.digest).toBe(listed);
    await node.pull(committed.reference);
    const output = await node.run(committed.reference, "from-commit", ["/bin/bash", "-c", "cat /app/made; ls /app"]);
    expect(output).toBe("made\ndata\nmade\n");
    await containerd.ctr(["content", "rm", listed]);
  });

  it("stores a layer once, whatever names it has", async () => {
    const shared = smallSystem();
    const one = await pushImage({ reference: `${registry.address}/shared-one:1`, layers: [shared, other] });
    const two = await pushImage({ reference: `${registry.address}/shared-two:1`, layers: [shared, [file("unique", "two\n")]] });
    const lazy = await pushImage({ reference: `${registry.address}/shared-three:1`, layers: [shared, other] });
    for (const image of [one, two, lazy]) await node.pull(image.reference);
    expect(one.layers[0]?.digest).toBe(two.layers[0]?.digest);
    const distinct = new Set([one, two, lazy].flatMap((image) => image.layers.map((layer) => layer.digest)));
    const applicationLayer = 1;
    expect((await storedLayers()).length).toBe(distinct.size + applicationLayer);
    expect(await node.run(two.reference, "shared-two", ["/bin/cat", "/unique"])).toBe("two\n");
    expect(await node.run(one.reference, "shared-one", ["/bin/cat", "/app/name"])).toBe("second\n");
  });

  it("starts 50 containers at once", async () => {
    const reference = `${registry.address}/lazy:1`;
    const names = Array.from({ length: 50 }, (_, index) => `many-${index}`);
    const outputs = await Promise.all(names.map((name) => node.run(reference, name, ["/bin/cat", "/app/name"])));
    expect(new Set(outputs)).toEqual(new Set(["first\n"]));
  });

  it("removes everything with the images", async () => {
    const { containerd } = node;
    const images = (await containerd.ctr(["images", "ls", "-q"])).stdout.split("\n").filter(Boolean);
    await containerd.ctr(["images", "rm", "--sync", ...images]);
    await collectGarbage().catch(() => undefined);
    await eventually("no snapshot is left", async () => (await snapshots()).length === 0);
    await eventually("no layer's data is left", async () => (await storedLayers()).length === 0);
    const left = await eventually("no directory is left", async () => {
      const names = await readdir(join(node.daemon.root, "snapshotter", "snapshots"));
      return names.length === 0 ? names : false;
    });
    expect(left).toEqual([]);
    expect(await readFile("/proc/self/mounts", "utf8")).not.toContain(`${containerd.folder}/`);
  });
});

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { file, writeLayer } from "@estargz/format";
import type { Descriptor } from "@estargz/interface";
import { digestOf, type ImageStore, OCI_MANIFEST, openImageStore } from "@estargz/registry";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { diagnoseImage } from "../src/index.ts";

let folder: string;
let image: ImageStore;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "estargz-doctor-"));
  image = openImageStore(`oci:${join(folder, "layout")}:test`);
});
afterEach(async () => {
  await image.close();
  await rm(folder, { recursive: true, force: true });
});

async function pushLayer(text: string): Promise<Descriptor> {
  const output = writeLayer([file("a", text.repeat(4000))]);
  const parts: Uint8Array[] = [];
  for await (const part of output.bytes) parts.push(part);
  const { digest, size, mediaType, annotations } = await output.result;
  const descriptor = { digest, size, mediaType, annotations };
  await image.pushBlob(descriptor, Buffer.concat(parts));
  return descriptor;
}

async function pushManifest(layers: readonly Descriptor[]): Promise<void> {
  const config = Buffer.from(JSON.stringify({ architecture: "amd64", os: "linux", rootfs: { type: "layers", diff_ids: [] } }));
  const descriptor = { mediaType: "application/vnd.oci.image.config.v1+json", digest: digestOf(config), size: config.length };
  await image.pushBlob(descriptor, config);
  const manifest = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, config: descriptor, layers }));
  await image.pushManifest(manifest, { mediaType: OCI_MANIFEST });
}

describe("the doctor", () => {
  it("says that a converted image will be lazy", async () => {
    await pushManifest([await pushLayer("one"), await pushLayer("two")]);
    const diagnosis = await diagnoseImage({ image, node: false });
    expect(diagnosis).toMatchObject({ lazy: "yes", lazyLayers: 2, layers: 2 });
    expect(diagnosis.checks.every((check) => check.status === "ok")).toBe(true);
  });

  it("names the layers that won't be, each with a fix", async () => {
    const good = await pushLayer("good");
    const lost = { ...(await pushLayer("lost")), annotations: {} };
    const bytes = Buffer.from("this is no gzip at all".repeat(300));
    const plain = { mediaType: "application/vnd.oci.image.layer.v1.tar+gzip", digest: digestOf(bytes), size: bytes.length };
    await image.pushBlob(plain, bytes);
    const lying = { ...good, annotations: { "containerd.io/snapshot/stargz/toc.digest": digestOf(bytes) } };
    const tar = { ...plain, mediaType: "application/vnd.oci.image.layer.v1.tar" };
    await pushManifest([good, lost, plain, lying, tar]);
    const diagnosis = await diagnoseImage({ image, node: false });
    expect(diagnosis).toMatchObject({ lazy: "partly", lazyLayers: 1, layers: 5 });
    const failures = diagnosis.checks.filter((check) => check.status === "failed");
    expect(failures.map(({ id, layer }) => [id, layer])).toEqual([
      ["layer.toc-digest", 1],
      ["layer.open", 2],
      ["layer.open", 3],
      ["layer.media-type", 4],
    ]);
    expect(failures[2]?.message).toMatch(/DIGEST_MISMATCH/);
    for (const check of failures) expect(check.fix?.length).toBeGreaterThan(10);
  });

  it("says so when there is no such image", async () => {
    await pushManifest([await pushLayer("x")]);
    const other = openImageStore(`oci:${join(folder, "layout")}:other`);
    const diagnosis = await diagnoseImage({ image: other, node: false });
    await other.close();
    expect(diagnosis).toMatchObject({ lazy: "no", layers: 0, checks: [{ id: "image.resolve", status: "failed" }] });
  });

  it.each([
    ["a missing file", undefined, "failed", undefined],
    ["no plugin", "version = 2\n", "failed", undefined],
    ["a plugin and CRI without annotations", `${plugin("p")}${cri("estargz", true)}`, "ok", "failed"],
    ["CRI with another snapshotter", `${plugin("p")}${cri("overlayfs", false)}`, "ok", "warning"],
    ["a plugin and CRI with annotations", `${plugin("p")}${cri("estargz", false)}`, "ok", "ok"],
    [
      "version 3",
      `version = 3\n${plugin("p")}[plugins."io.containerd.cri.v1.images"]\nsnapshotter = "estargz"\ndisable_snapshot_annotations = false\n`,
      "ok",
      "ok",
    ],
  ])("looks at containerd's configuration: %s", async (_name, toml, pluginStatus, criStatus) => {
    await pushManifest([await pushLayer("x")]);
    const path = join(folder, "config.toml");
    if (toml !== undefined) await writeFile(path, toml);
    const { checks } = await diagnoseImage({ image, containerdConfig: path });
    const statusOf = (id: string): string | undefined => checks.find((check) => check.id === id)?.status;
    expect(statusOf("containerd.proxy-plugin")).toBe(pluginStatus);
    expect(statusOf("containerd.cri")).toBe(criStatus);
    expect(statusOf("node.snapshotter")).toBe(pluginStatus === "ok" ? "failed" : undefined);
    for (const check of checks) if (check.status === "failed" || check.status === "warning") expect(check.fix).toBeTruthy();
  });
});

function plugin(address: string): string {
  return `[proxy_plugins.estargz]\n  type = "snapshot"\n  address = "/nonexistent/${address}.sock"\n`;
}

function cri(snapshotter: string, disabled: boolean): string {
  return `[plugins."io.containerd.grpc.v1.cri".containerd]\n  snapshotter = "${snapshotter}"\n  disable_snapshot_annotations = ${disabled}\n`;
}

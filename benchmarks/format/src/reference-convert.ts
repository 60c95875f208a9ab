import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { convertTar } from "@estargz/format";
import { runCommand, startContainerd } from "@estargz/testing";
import { collect } from "./make-layers.ts";
import { type Comparison, inTurns } from "./measure.ts";

const digestOf = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/** Writes an OCI layout of an image with one layer, as a tar that containerd imports. */
async function imageTar(folder: string, tar: Uint8Array, layer: Uint8Array): Promise<string> {
  const layout = join(folder, "layout");
  await mkdir(join(layout, "blobs", "sha256"), { recursive: true });
  const put = async (bytes: Uint8Array): Promise<{ digest: string; size: number }> => {
    await writeFile(join(layout, "blobs", "sha256", digestOf(bytes)), bytes);
    return { digest: `sha256:${digestOf(bytes)}`, size: bytes.length };
  };
  const json = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));
  const config = await put(
    json({ architecture: "amd64", os: "linux", config: {}, rootfs: { type: "layers", diff_ids: [`sha256:${digestOf(tar)}`] } }),
  );
  const manifest = json({
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    config: { mediaType: "application/vnd.oci.image.config.v1+json", ...config },
    layers: [{ mediaType: "application/vnd.oci.image.layer.v1.tar+gzip", ...(await put(layer)) }],
  });
  const name = { "io.containerd.image.name": "example.test/source:1", "org.opencontainers.image.ref.name": "1" };
  const index = {
    schemaVersion: 2,
    manifests: [{ mediaType: "application/vnd.oci.image.manifest.v1+json", ...(await put(manifest)), annotations: name }],
  };
  await writeFile(join(layout, "index.json"), json(index));
  await writeFile(join(layout, "oci-layout"), json({ imageLayoutVersion: "1.0.0" }));
  const path = join(folder, "image.tar");
  await runCommand("tar", ["-cf", path, "-C", layout, "."]);
  return path;
}

/** Converting a gzip layer against `ctr-remote image convert` of the same layer at the same level. */
export async function benchmarkReferenceConvert(tarPath: string, what: string, rounds: number): Promise<Comparison[]> {
  const folder = await mkdtemp(join(tmpdir(), "estargz-bench-"));
  const containerd = await startContainerd();
  try {
    const tar = new Uint8Array(await readFile(tarPath));
    const layer = new Uint8Array(gzipSync(tar));
    await containerd.ctr(["images", "import", "--no-unpack", await imageTar(folder, tar, layer)]);
    let run = 0;
    const times = await inTurns(rounds, {
      ours: async () => collect(convertTar(layer, { level: 9 })),
      reference: async () => {
        run += 1;
        // Its results are removed, or it would find the converted blob in the store.
        const target = `example.test/converted:${run}`;
        await containerd.ctr(["image", "convert", "--estargz", "--oci", "example.test/source:1", target], { binary: "ctr-remote" });
        await containerd.ctr(["images", "rm", "--sync", target]);
      },
    });
    const ratio = (times["reference"] ?? 0) / (times["ours"] ?? 1);
    return [
      {
        name: `convert a gzip layer of ${what}, against ctr-remote`,
        meaning: "speed / ctr-remote image convert --estargz (level 9), more is better",
        ratio,
        goal: "above 1",
        met: ratio > 1,
        oursMs: times["ours"],
        theirsMs: times["reference"],
        note: "theirs includes the start of the command and containerd's content store",
      },
    ];
  } finally {
    await containerd.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

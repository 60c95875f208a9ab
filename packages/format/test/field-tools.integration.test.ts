import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Containerd, startContainerd } from "@estargz/testing";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { concatBytes } from "../src/bytes.ts";
import { convertTar, openLayer, type WriteLayerOptions, type WrittenLayer } from "../src/index.ts";
import { openFile } from "../src/node/index.ts";
import { fixtureBytes } from "./fixtures.ts";

const VARIANTS: Readonly<Record<string, WriteLayerOptions>> = {
  estargz: {},
  "estargz-small-chunks": { chunkSizeBytes: 4096 },
  "estargz-prioritised": { prioritizedFiles: ["size/10000", "bin/tool-hard"] },
  "zstd-chunked": { compression: "zstd" },
  packed: { minMemberBytes: 8192 },
  external: { externalToc: true, lossless: true },
};
// The field's ctr-remote is of version 0.12: it knows neither packed members nor external TOCs.
const READABLE = Object.keys(VARIANTS).filter((name) => name !== "packed" && name !== "external");

interface Image {
  readonly blob: Uint8Array;
  readonly written: WrittenLayer;
  readonly reference: string;
}

let containerd: Containerd;
let folder: string;
const images = new Map<string, Image>();
const hex = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
const json = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));

/** Writes an image with one layer as an archive that containerd imports. */
function writeArchive(
  name: string,
  blob: Uint8Array,
  written: Pick<WrittenLayer, "mediaType" | "annotations"> & { readonly diffId: string },
): string {
  const layout = join(folder, name);
  mkdirSync(join(layout, "blobs", "sha256"), { recursive: true });
  const put = (bytes: Uint8Array): { digest: string; size: number } => {
    writeFileSync(join(layout, "blobs", "sha256", hex(bytes)), bytes);
    return { digest: `sha256:${hex(bytes)}`, size: bytes.length };
  };
  const config = put(json({ architecture: "amd64", os: "linux", config: {}, rootfs: { type: "layers", diff_ids: [written.diffId] } }));
  const manifest = put(
    json({
      schemaVersion: 2,
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      config: { mediaType: "application/vnd.oci.image.config.v1+json", ...config },
      layers: [{ mediaType: written.mediaType, ...put(blob), annotations: written.annotations }],
    }),
  );
  const annotations = { "io.containerd.image.name": `example.test/${name}:1`, "org.opencontainers.image.ref.name": "1" };
  const descriptor = { mediaType: "application/vnd.oci.image.manifest.v1+json", ...manifest, annotations };
  writeFileSync(join(layout, "index.json"), json({ schemaVersion: 2, manifests: [descriptor] }));
  writeFileSync(join(layout, "oci-layout"), json({ imageLayoutVersion: "1.0.0" }));
  execFileSync("tar", ["-cf", `${layout}.tar`, "-C", layout, "."]);
  return `${layout}.tar`;
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "estargz-format-"));
  containerd = await startContainerd();
  const tar = fixtureBytes("small.tar");
  const source = { mediaType: "application/vnd.oci.image.layer.v1.tar", diffId: `sha256:${hex(tar)}`, annotations: {} };
  await containerd.ctr(["images", "import", "--no-unpack", writeArchive("source", tar, source)]);
  for (const [name, options] of Object.entries(VARIANTS)) {
    const output = convertTar(tar, options);
    const parts: Uint8Array[] = [];
    for await (const bytes of output.bytes) parts.push(bytes);
    const image = { blob: concatBytes(parts), written: await output.result, reference: `example.test/${name}:1` };
    images.set(name, image);
    await containerd.ctr(["images", "import", "--no-unpack", writeArchive(name, image.blob, image.written)]);
  }
});

afterAll(async () => {
  await containerd?.stop();
  rmSync(folder, { recursive: true, force: true });
});

describe("the field's tools", () => {
  it.each(READABLE)("ctr-remote finds the TOC of %s", async (name) => {
    const { written } = images.get(name)!;
    const kind = written.mediaType.endsWith("zstd") ? ["--zstdchunked"] : [];
    const { stdout } = await containerd.ctr(["images", "get-toc-digest", ...kind, written.digest], { binary: "ctr-remote" });
    expect(stdout).toContain(written.tocDigest);
  });

  // Its converter reads a layer to make another: of ours it has to make the same tree as of the tar that ours was made of.
  it.each(READABLE)("ctr-remote converts %s as it converts the tar it was made of", async (name) => {
    const converted = async (from: string): Promise<string[]> => {
      const target = `${from}-converted-${name}`;
      const kind = name === "zstd-chunked" ? ["--zstdchunked"] : [];
      await containerd.ctr(["images", "optimize", "--no-optimize", "--oci", ...kind, from, target], { binary: "ctr-remote" });
      const { stdout } = await containerd.ctr(["images", "list", `name==${target}`]);
      const manifest = (await containerd.ctr(["content", "get", /sha256:[0-9a-f]{64}/.exec(stdout)![0]])).stdout;
      const [{ digest, annotations }] = (JSON.parse(manifest) as { layers: [{ digest: string; annotations: Record<string, string> }] })
        .layers;
      const blob = await openFile(join(containerd.folder, "root/io.containerd.content.v1.content/blobs/sha256", digest.slice(7)));
      const layer = await openLayer(blob, { annotations });
      await layer.verify("full");
      await blob.close?.();
      return layer.entries
        .map((entry) =>
          JSON.stringify([entry.path, entry.type, entry.mode, entry.uid, entry.size, entry.digest, entry.linkName, entry.linkCount]),
        )
        .sort();
    };
    expect(await converted(images.get(name)!.reference)).toEqual(await converted("example.test/source:1"));
  });

  it.each(Object.keys(VARIANTS))("containerd unpacks %s, and finds its DiffID right", async (name) => {
    const { reference } = images.get(name)!;
    const target = join(folder, `mount-${name}`);
    mkdirSync(target);
    await containerd.ctr(["images", "mount", reference, target]);
    try {
      // GNU tar lists the unpacked tree; the same from the source.
      const list = (args: string[]): string[] =>
        execFileSync("tar", args, { encoding: "utf8", maxBuffer: 1 << 26 })
          .split("\n")
          .map((line) => line.replace(/^\.\//, "").replace(/\/$/, ""))
          .filter((line) => line !== "" && line !== "." && !line.includes(".wh.") && !/\.landmark$|index\.json$/.test(line))
          .sort();
      writeFileSync(join(folder, "source.tar"), fixtureBytes("small.tar"));
      const names = list(["-tf", join(folder, "source.tar")]).filter((line) => !line.startsWith("wh/"));
      execFileSync("tar", ["-cf", join(folder, "unpacked.tar"), "-C", target, "."]);
      const unpacked = list(["-tf", join(folder, "unpacked.tar")]);
      for (const path of names) expect(unpacked).toContain(path);
    } finally {
      await containerd.ctr(["images", "unmount", target], { allowFailure: true });
    }
  });

  it.each(Object.keys(VARIANTS))("gzip, zstd and tar accept %s", (name) => {
    const { blob, written } = images.get(name)!;
    const isZstd = written.mediaType.endsWith("zstd");
    const path = join(folder, isZstd ? `${name}.zst` : `${name}.gz`);
    writeFileSync(path, blob);
    execFileSync(isZstd ? "zstd" : "gzip", ["-t", path], { stdio: "pipe" });
    const unpacked = execFileSync(isZstd ? "zstd" : "gzip", ["-dc", path], { maxBuffer: 1 << 26, stdio: "pipe" });
    expect(`sha256:${hex(unpacked)}`).toBe(written.diffId);
    const names = execFileSync("tar", ["-tf", path, isZstd ? "--zstd" : "-z"], { encoding: "utf8" }).split("\n");
    expect(names).toContain("bin/tool");
  });
});

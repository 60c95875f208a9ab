import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync, realpathSync } from "node:fs";
import { dirname } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { directory, file, type LayerInput, symlink, type WriteLayerOptions, writeLayer, writeTar } from "@estargz/format";
import type { Descriptor, Digest } from "@estargz/interface";
import { createRegistryClient, digestOf, OCI_MANIFEST, type RegistryRepository } from "@estargz/registry";

/** An image to be pushed. */
export interface ImageRecipe {
  /** `HOST:PORT/REPOSITORY:TAG`. */
  readonly reference: string;
  readonly layers: readonly (readonly LayerInput[])[];
  readonly command?: readonly string[];
  /** Layers that are written as plain gzip. Default none. */
  readonly plain?: boolean;
  readonly write?: WriteLayerOptions;
  /** Changes descriptors before the manifest is made, to lie in it. */
  readonly tamper?: (layer: Descriptor, index: number) => Descriptor;
  /** DiffIDs to claim instead of the true ones. */
  readonly claimDiffIds?: readonly string[];
  readonly username?: string;
  readonly password?: string;
}

/** A pushed image. */
export interface PushedImage {
  readonly reference: string;
  readonly layers: readonly Descriptor[];
  readonly diffIds: readonly string[];
  readonly manifestDigest: Digest;
}

const PROGRAMS = ["bash", "cat", "ls", "sleep", "sha256sum", "find", "touch", "dd", "mkdir", "rm", "wc", "head"];

/** A small system: bash, a few programs and the libraries they link, as entries of a layer. */
export function smallSystem(): LayerInput[] {
  const paths = PROGRAMS.map((name) => realpathSync(execFileSync("which", [name], { encoding: "utf8" }).trim()));
  const libraries = new Set<string>();
  for (const path of paths) {
    for (const match of execFileSync("ldd", [path], { encoding: "utf8" }).matchAll(/(\/lib\S*)/g)) libraries.add(match[1] ?? "");
  }
  const folders = new Set<string>(["bin", "etc", "tmp", "proc", "sys", "dev", "run"]);
  for (const library of libraries) {
    for (let folder = dirname(library).slice(1); folder !== ""; folder = dirname(`/${folder}`).slice(1)) folders.add(folder);
  }
  return [
    ...[...folders].toSorted().map((path) => directory(path)),
    ...PROGRAMS.map((name, index) => file(`bin/${name}`, readFileSync(paths[index] ?? ""), { mode: 0o755 })),
    symlink("bin/sh", "bash"),
    ...[...libraries].toSorted().map((path) => file(path.slice(1), readFileSync(path), { mode: 0o755 })),
    file("etc/greeting", "hello from a lazy layer\n"),
    file("etc/passwd", "root:x:0:0::/:/bin/bash\n"),
  ];
}

/** Bytes that look random and are the same for the same seed; they don't compress. */
export function noise(seed: string, length: number): Uint8Array {
  const parts: Buffer[] = [];
  for (let at = 0; at < length; at += 32) parts.push(createHash("sha256").update(`${seed} ${at}`).digest());
  return Buffer.concat(parts).subarray(0, length);
}

async function collect(pieces: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const piece of pieces) parts.push(piece);
  return Buffer.concat(parts);
}

async function makeLayer(
  entries: readonly LayerInput[],
  recipe: ImageRecipe,
): Promise<{ descriptor: Descriptor; bytes: Buffer; diffId: string }> {
  if (recipe.plain === true) {
    const tar = await collect(writeTar(entries));
    const bytes = gzipSync(tar);
    const descriptor = { mediaType: "application/vnd.oci.image.layer.v1.tar+gzip", digest: digestOf(bytes), size: bytes.length };
    return { descriptor, bytes, diffId: digestOf(tar) };
  }
  const output = writeLayer(entries, recipe.write);
  const bytes = await collect(output.bytes);
  const { digest, size, mediaType, annotations, diffId } = await output.result;
  return { descriptor: { digest, size, mediaType, annotations }, bytes, diffId };
}

/** Writes an image's layers and pushes it to a registry. */
export async function pushImage(recipe: ImageRecipe): Promise<PushedImage> {
  const { username, password } = recipe;
  await using client = createRegistryClient({
    keychain: {
      resolve: async () => (username === undefined ? undefined : { type: "basic", username, password: password ?? "" }),
    },
  });
  const repository = client.repository(recipe.reference);
  const layers: Descriptor[] = [];
  const diffIds: string[] = [];
  for (const [index, entries] of recipe.layers.entries()) {
    const { descriptor, bytes, diffId } = await makeLayer(entries, recipe);
    await repository.pushBlob(descriptor, bytes);
    layers.push(recipe.tamper?.(descriptor, index) ?? descriptor);
    diffIds.push(diffId);
  }
  const pushed = await pushConfigAndManifest(repository, layers, recipe.claimDiffIds ?? diffIds, recipe.command);
  return { reference: recipe.reference, layers, diffIds, ...pushed };
}

/** Makes an image of another one and a further layer, as `commit` commands do. */
export async function commitImage(options: {
  readonly base: PushedImage;
  readonly reference: string;
  /** A gzipped tar. */
  readonly layer: Uint8Array;
}): Promise<PushedImage> {
  await using client = createRegistryClient();
  const repository = client.repository(options.reference);
  const mediaType = "application/vnd.oci.image.layer.v1.tar+gzip";
  const descriptor = { mediaType, digest: digestOf(options.layer), size: options.layer.length };
  await repository.pushBlob(descriptor, options.layer);
  const layers = [...options.base.layers, descriptor];
  const diffIds = [...options.base.diffIds, digestOf(gunzipSync(options.layer))];
  const pushed = await pushConfigAndManifest(repository, layers, diffIds, undefined);
  return { reference: options.reference, layers, diffIds, ...pushed };
}

async function pushConfigAndManifest(
  repository: RegistryRepository,
  layers: readonly Descriptor[],
  diffIds: readonly string[],
  command: readonly string[] | undefined,
): Promise<{ readonly manifestDigest: Digest }> {
  const config = Buffer.from(
    JSON.stringify({
      architecture: process.arch === "arm64" ? "arm64" : "amd64",
      os: "linux",
      config: { Cmd: command ?? ["/bin/bash", "-c", "cat /etc/greeting"], Env: ["PATH=/bin"] },
      rootfs: { type: "layers", diff_ids: diffIds },
    }),
  );
  const configDescriptor = { mediaType: "application/vnd.oci.image.config.v1+json", digest: digestOf(config), size: config.length };
  await repository.pushBlob(configDescriptor, config);
  const manifest = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, config: configDescriptor, layers }));
  await repository.pushManifest(manifest, { mediaType: OCI_MANIFEST });
  return { manifestDigest: digestOf(manifest) };
}

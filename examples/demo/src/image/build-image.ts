import { createHash } from "node:crypto";
import { createWriteStream } from "node:fs";
import { mkdir, rename, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import { createLayerTar, type LayerTar } from "./layer-tar.ts";

/** A layer of the image to be made. */
export interface LayerRecipe {
  readonly name: string;
  fill(layer: LayerTar, signal?: AbortSignal): Promise<void>;
}

/** How the image is started. */
export interface ImageCommand {
  readonly command: readonly string[];
  readonly workingDirectory: string;
  readonly environment: readonly string[];
}

/** A built image, as an OCI layout folder. */
export interface BuiltImage {
  readonly directory: string;
  readonly layers: readonly BuiltLayer[];
  readonly files: number;
}

export interface BuiltLayer {
  readonly name: string;
  readonly digest: string;
  readonly diffId: string;
  readonly size: number;
  readonly uncompressedSize: number;
}

interface Blob {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

function counted(hash: ReturnType<typeof createHash>, count: (bytes: number) => void): Transform {
  return new Transform({
    transform(bytes: Uint8Array, _encoding, done) {
      hash.update(bytes);
      count(bytes.length);
      done(null, bytes);
    },
  });
}

async function writeLayer(directory: string, recipe: LayerRecipe, signal?: AbortSignal): Promise<BuiltLayer & { files: number }> {
  const layer = createLayerTar();
  const plain = createHash("sha256");
  const packed = createHash("sha256");
  let uncompressedSize = 0;
  const temporary = join(directory, `blobs/sha256/.${recipe.name}`);
  const written = pipeline(
    layer.stream,
    counted(plain, (bytes) => {
      uncompressedSize += bytes;
    }),
    createGzip({ level: 6 }),
    counted(packed, () => {}),
    createWriteStream(temporary),
    { signal },
  );
  const filled = recipe.fill(layer, signal).then(
    () => layer.finish(),
    (error: unknown) => layer.stream.destroy(error as Error),
  );
  await Promise.all([written, filled]);
  const hex = packed.digest("hex");
  await rename(temporary, join(directory, "blobs/sha256", hex));
  const { size } = await stat(join(directory, "blobs/sha256", hex));
  const digest = `sha256:${hex}`;
  return { name: recipe.name, digest, diffId: `sha256:${plain.digest("hex")}`, size, uncompressedSize, files: layer.files };
}

async function writeJson(directory: string, mediaType: string, value: unknown): Promise<Blob> {
  const bytes = Buffer.from(JSON.stringify(value));
  const hex = createHash("sha256").update(bytes).digest("hex");
  await writeFile(join(directory, "blobs/sha256", hex), bytes);
  return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
}

function configOf(layers: readonly BuiltLayer[], command: ImageCommand): unknown {
  const created = "2026-01-01T00:00:00Z";
  return {
    created,
    architecture: process.arch === "arm64" ? "arm64" : "amd64",
    os: "linux",
    config: { Cmd: command.command, WorkingDir: command.workingDirectory, Env: command.environment },
    rootfs: { type: "layers", diff_ids: layers.map((layer) => layer.diffId) },
    history: layers.map((layer) => ({ created, created_by: layer.name })),
  };
}

/**
 * Builds an ordinary image (tar+gzip layers, level 6 as Docker does it) as an OCI layout.
 *
 * @param onLayer - Called when a layer is done.
 */
export async function buildImage(
  directory: string,
  recipes: readonly LayerRecipe[],
  command: ImageCommand,
  options: { readonly signal?: AbortSignal | undefined; readonly onLayer?: (layer: BuiltLayer) => void } = {},
): Promise<BuiltImage> {
  await mkdir(join(directory, "blobs/sha256"), { recursive: true });
  // One after the other would leave a core idle while a file is read; all at once is what two cores can do.
  const layers = await Promise.all(
    recipes.map(async (recipe) => {
      const layer = await writeLayer(directory, recipe, options.signal);
      options.onLayer?.(layer);
      return layer;
    }),
  );
  const config = await writeJson(directory, "application/vnd.oci.image.config.v1+json", configOf(layers, command));
  const mediaType = "application/vnd.oci.image.manifest.v1+json";
  const manifest = await writeJson(directory, mediaType, {
    schemaVersion: 2,
    mediaType,
    config,
    layers: layers.map(({ digest, size }) => ({ mediaType: "application/vnd.oci.image.layer.v1.tar+gzip", digest, size })),
  });
  const annotations = { "org.opencontainers.image.ref.name": "latest" };
  await writeFile(join(directory, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
  await writeFile(join(directory, "index.json"), JSON.stringify({ schemaVersion: 2, manifests: [{ ...manifest, annotations }] }));
  return { directory, layers, files: layers.reduce((sum, layer) => sum + layer.files, 0) };
}

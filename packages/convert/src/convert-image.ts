import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Descriptor, EstargzError, type Platform } from "@estargz/interface";
import {
  type FetchedManifest,
  type ImageConfig,
  type ImageManifest,
  type ImageStore,
  OCI_CONFIG,
  OCI_INDEX,
  OCI_MANIFEST,
} from "@estargz/registry";
import { type ConvertedLayer, convertLayer, temporaryPath } from "./convert-layer.ts";
import { mapLimit } from "./map-limit.ts";
import { isLayerMediaType } from "./media-types.ts";
import { type ConvertOptions, checkConvertOptions } from "./options.ts";
import { selectManifests } from "./platforms.ts";
import { pushJson, pushJsonBlob } from "./push-json.ts";
import { filesOfLayer } from "./record.ts";
import { pushTocImage } from "./toc-image.ts";

/** One image that was converted. */
export interface ConvertedManifest {
  readonly platform: Platform | undefined;
  /** The manifest that was read. */
  readonly from: Descriptor;
  /** The manifest that was written. */
  readonly to: Descriptor;
  readonly layers: readonly ConvertedLayer[];
}

/** What {@link convertImage} wrote. */
export interface ConvertResult {
  /** The index or manifest that the destination's tag leads to now. */
  readonly descriptor: Descriptor;
  readonly images: readonly ConvertedManifest[];
  /** Files of the record that no layer has. */
  readonly missingFiles: readonly string[];
  /** Tag of the image that holds the TOCs; with `external-toc` only. */
  readonly tocTag?: string | undefined;
}

/** One run of {@link convertImage}. Layers that images have in common are converted once. */
interface Run {
  readonly source: ImageStore;
  readonly destination: ImageStore;
  readonly options: ConvertOptions;
  readonly folder: string;
  readonly layers: Map<string, Promise<ConvertedLayer>>;
  readonly signal: AbortSignal;
  /** Stops the layers that are in work when one of them has failed. */
  stop(reason: unknown): void;
}

function convertOnce(run: Run, image: ImageManifest, config: ImageConfig, index: number, manifestDigest: string): Promise<ConvertedLayer> {
  const { source, destination, options, signal } = run;
  const descriptor = image.layers[index];
  const diffId = config.rootfs?.diff_ids[index];
  if (descriptor === undefined || diffId === undefined)
    throw new EstargzError("INVALID_RESPONSE", "the image has more layers than DiffIDs");
  const prioritizedFiles = filesOfLayer(options.record ?? [], index, manifestDigest);
  const key = JSON.stringify([descriptor.digest, descriptor.mediaType, descriptor.annotations, prioritizedFiles]);
  const known = run.layers.get(key);
  if (known !== undefined) return known;
  const path = temporaryPath(run.folder, run.layers.size);
  const converting = convertLayer({ source, destination, descriptor, diffId, prioritizedFiles, options, temporaryPath: path, signal }).then(
    (layer) => {
      options.onEvent?.({ type: "layer", layer: descriptor.digest, how: layer.how });
      return layer;
    },
  );
  run.layers.set(key, converting);
  return converting;
}

function checkImage(manifest: ImageManifest, config: ImageConfig, digest: string): void {
  const other = manifest.layers.find(({ mediaType }) => !isLayerMediaType(mediaType));
  if (other !== undefined) {
    throw new EstargzError("UNSUPPORTED", `${digest} is not a container image: it holds ${other.mediaType}, which is no file system layer`);
  }
  const diffIds = config.rootfs?.diff_ids.length ?? 0;
  if (diffIds === manifest.layers.length) return;
  throw new EstargzError("INVALID_RESPONSE", `image ${digest} has ${manifest.layers.length} layers and ${diffIds} DiffIDs`);
}

async function convertManifest(
  run: Run,
  fetched: FetchedManifest,
  entry: Descriptor,
  push: { readonly untagged: boolean },
): Promise<ConvertedManifest> {
  const { source, destination, options, signal } = run;
  if (fetched.kind === "index") throw new EstargzError("UNSUPPORTED", `index ${fetched.descriptor.digest} is within another index`);
  const { manifest, descriptor } = fetched;
  const config = await source.fetchConfig(manifest, { signal });
  checkImage(manifest, config, descriptor.digest);
  const platform = entry.platform ?? platformOf(config);
  const totalBytes = manifest.layers.reduce((sum, { size }) => sum + size, 0);
  options.onEvent?.({ type: "image", platform, layers: manifest.layers.length, totalBytes });
  const layers = await mapLimit(
    manifest.layers,
    options.concurrency ?? 2,
    async (_layer, index) => {
      try {
        return await convertOnce(run, manifest, config, index, descriptor.digest);
      } catch (error) {
        run.stop(error);
        throw error;
      }
    },
    signal,
  );
  // Everything else of the configuration stays, history and fields that we know nothing of included.
  const rootfs = { ...config.rootfs, diff_ids: layers.map(({ diffId }) => diffId) };
  const written = await pushJsonBlob(destination, OCI_CONFIG, { ...config, rootfs }, signal);
  const { annotations } = manifest;
  const document = {
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    config: written,
    layers: layers.map(({ to }) => to),
    ...(annotations === undefined ? {} : { annotations }),
  };
  return { platform, from: descriptor, to: await pushJson(destination, OCI_MANIFEST, document, { ...push, signal }), layers };
}

function platformOf(config: ImageConfig): Platform | undefined {
  const { os, architecture, variant } = config;
  return os === undefined || architecture === undefined ? undefined : { os, architecture, variant };
}

async function convertAll(run: Run, root: FetchedManifest): Promise<Pick<ConvertResult, "descriptor" | "images">> {
  const { source, destination, options, signal } = run;
  if (root.kind === "manifest") {
    const image = await convertManifest(run, root, root.descriptor, { untagged: false });
    return { descriptor: image.to, images: [image] };
  }
  const { index } = root;
  const images: ConvertedManifest[] = [];
  const manifests: Descriptor[] = [];
  // One image after the other: their layers are what runs at the same time.
  for (const entry of selectManifests(index.manifests, options.platforms)) {
    const image = await convertManifest(run, await source.fetchManifest(entry, { signal }), entry, { untagged: true });
    images.push(image);
    const { platform, annotations } = entry;
    manifests.push({ ...image.to, ...(platform === undefined ? {} : { platform }), ...(annotations === undefined ? {} : { annotations }) });
  }
  const { annotations } = index;
  const document = { schemaVersion: 2, mediaType: OCI_INDEX, manifests, ...(annotations === undefined ? {} : { annotations }) };
  return { descriptor: await pushJson(destination, OCI_INDEX, document, { signal }), images };
}

function missingEverywhere({ record = [] }: ConvertOptions, layers: readonly ConvertedLayer[]): string[] {
  const found = new Set(layers.flatMap(({ frontFiles = [] }) => frontFiles));
  return [...new Set(record.map(({ path }) => path))].filter((path) => !found.has(path));
}

/**
 * Converts a whole image to one whose layers can be read lazily, and stores it in the destination. The result is an
 * ordinary OCI image for every registry and runtime; the same input and options give the same digests on every machine.
 *
 * Layers are streamed: at most `concurrency` of them at once, through files in the temporary folder. Blobs that the
 * destination has are not sent again.
 *
 * @param source - Where the image is; its own tag or digest says which one.
 * @param destination - Where it goes; its own tag is set.
 * @throws `INVALID_ARGUMENT`, `UNSUPPORTED` for what is no container image, `DIGEST_MISMATCH`, `INVALID_TAR`,
 * `INVALID_COMPRESSION` for damaged layers, and the codes of both places. Aborts with the signal's reason; a part of the blobs
 * may be stored by then, but no tag is set.
 */
export async function convertImage(source: ImageStore, destination: ImageStore, options: ConvertOptions = {}): Promise<ConvertResult> {
  checkConvertOptions(options);
  options.signal?.throwIfAborted();
  const folder = await mkdtemp(join(options.temporaryFolder ?? tmpdir(), "estargz-convert-"));
  const controller = new AbortController();
  const signal = options.signal === undefined ? controller.signal : AbortSignal.any([options.signal, controller.signal]);
  const stop = (reason: unknown): void => controller.abort(reason);
  try {
    const root = await source.fetchManifest(undefined, { signal });
    const converted = await convertAll({ source, destination, options, folder, layers: new Map(), signal, stop }, root);
    const layers = converted.images.flatMap((image) => image.layers);
    const result = { ...converted, missingFiles: missingEverywhere(options, layers) };
    if (options.format !== "external-toc") return result;
    return { ...result, tocTag: await pushTocImage(destination, layers, signal) };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

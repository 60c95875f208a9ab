import { encodeFirstUse, FIRST_USE_ANNOTATION } from "@estargz/format";
import { type Descriptor, EstargzError, type Platform } from "@estargz/interface";
import { choosePlatform, type FetchedManifest, hostPlatform, type ImageManifest, type ImageStore } from "@estargz/registry";
import { copyImage } from "./copy-image.ts";
import { pushJson } from "./push-json.ts";

/** Options of {@link optimizeImage}. */
export interface OptimizeOptions {
  /** For each layer, the lowest first, the numbers of the chunks that a start reads, in the order of first use. */
  readonly firstUse: readonly (readonly number[])[];
  /** Which image of an index was recorded. Default: Linux on this machine's architecture. */
  readonly platform?: Platform | undefined;
  readonly signal?: AbortSignal | undefined;
}

function annotate(manifest: ImageManifest, firstUse: OptimizeOptions["firstUse"]): Descriptor[] {
  return manifest.layers.map((layer, index) => {
    const { [FIRST_USE_ANNOTATION]: _former, ...annotations } = layer.annotations ?? {};
    const chunks = firstUse[index] ?? [];
    if (chunks.length > 0) return { ...layer, annotations: { ...annotations, [FIRST_USE_ANNOTATION]: encodeFirstUse(chunks) } };
    return Object.keys(annotations).length > 0 ? { ...layer, annotations } : layer;
  });
}

/** Rewrites one manifest; its blobs are in the destination already. */
function pushAnnotated(
  destination: ImageStore,
  fetched: FetchedManifest,
  options: OptimizeOptions,
  untagged: boolean,
  signal: AbortSignal,
): Promise<Descriptor> {
  if (fetched.kind === "index") throw new EstargzError("UNSUPPORTED", `index ${fetched.descriptor.digest} is within another index`);
  const { manifest, bytes } = fetched;
  if (options.firstUse.length !== manifest.layers.length) {
    const counts = `${options.firstUse.length} layers were recorded and the image has ${manifest.layers.length}`;
    throw new EstargzError("INVALID_ARGUMENT", `${counts}: record this image, of this platform`);
  }
  const document = { ...(JSON.parse(new TextDecoder().decode(bytes)) as object), layers: annotate(manifest, options.firstUse) };
  return pushJson(destination, fetched.descriptor.mediaType, document, { untagged, signal });
}

/**
 * Writes into an image what a start of it reads first, so that readers who know of it fetch that ahead, in that order. Layers stay
 * byte for byte what they are: only the manifest is new, and whoever doesn't know the annotation loses nothing.
 *
 * @param source - A lazily readable image.
 * @param destination - Where it goes, with a new digest; the source's own repository will do.
 * @returns The manifest or index that the destination's tag leads to now.
 * @throws `INVALID_ARGUMENT` when the record is of another image, and the codes of both places.
 */
export async function optimizeImage(source: ImageStore, destination: ImageStore, options: OptimizeOptions): Promise<Descriptor> {
  const signal = options.signal ?? new AbortController().signal;
  const root = await source.fetchManifest(undefined, { signal });
  await copyImage(source, destination, { signal, tagged: false });
  if (root.kind === "manifest") return pushAnnotated(destination, root, options, false, signal);
  const chosen = choosePlatform(root.index, options.platform ?? hostPlatform());
  const written = await pushAnnotated(destination, await source.fetchManifest(chosen, { signal }), options, true, signal);
  const manifests = root.index.manifests.map((entry) =>
    entry.digest === chosen.digest ? { ...entry, digest: written.digest, size: written.size } : entry,
  );
  const document = { ...(JSON.parse(new TextDecoder().decode(root.bytes)) as object), manifests };
  return pushJson(destination, root.descriptor.mediaType, document, { signal });
}

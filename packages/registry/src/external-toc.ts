import { type Descriptor, type Digest, EstargzError } from "@estargz/interface";
import type { ImageStore, StoreOptions } from "./image-store.ts";
import { parseReference } from "./reference.ts";

const SUFFIX = "-esgztoc";
const LAYER_DIGEST = "containerd.io/snapshot/stargz/layer.digest";
const TAG = /:([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})$/;

/** Tag of the image that holds the TOCs of an image whose layers don't (stargz-snapshotter, "external TOC"). */
export function externalTocTag(store: ImageStore): string {
  if (store.kind !== "registry") return `${TAG.exec(store.reference.slice(store.reference.indexOf(":") + 1))?.[1] ?? "latest"}${SUFFIX}`;
  const { tag } = parseReference(store.reference);
  if (tag === undefined) {
    throw new EstargzError("INVALID_REFERENCE", `${store.reference} names no tag, by which the image with its TOCs is found: add it`);
  }
  return `${tag}${SUFFIX}`;
}

/**
 * Fetches the TOC blob of a layer whose TOC is stored in an image of its own. Its bytes are those of the manifest there;
 * whether they are the layer's TOC is proven by the layer's own TOC digest, by who opens it.
 *
 * @param layer - Digest of the layer.
 * @throws `NOT_FOUND` when there is no such image, or it has no TOC for the layer.
 */
export async function fetchExternalToc(store: ImageStore, layer: Digest, options: StoreOptions = {}): Promise<Uint8Array> {
  const tag = externalTocTag(store);
  const fetched = await store.fetchManifest(tag, options);
  const layers: readonly Descriptor[] = fetched.kind === "manifest" ? fetched.manifest.layers : [];
  const toc = layers.find(({ annotations }) => annotations?.[LAYER_DIGEST] === layer);
  if (toc === undefined)
    throw new EstargzError("NOT_FOUND", `the image with tag ${tag} has no TOC of layer ${layer}: convert the image again`);
  return store.fetchBlob(toc, { ...options, maxBytes: 256 * 1024 * 1024 });
}

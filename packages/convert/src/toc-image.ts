import { LAYER_DIGEST_ANNOTATION } from "@estargz/format";
import { type Descriptor, EstargzError } from "@estargz/interface";
import { type ImageStore, OCI_CONFIG, OCI_MANIFEST, parseReference } from "@estargz/registry";
import type { ConvertedLayer } from "./convert-layer.ts";
import { pushJson, pushJsonBlob } from "./push-json.ts";

/** What the tag of a TOC image ends with: how readers find it (stargz-snapshotter, external TOC). */
export const TOC_IMAGE_SUFFIX = "-esgztoc";

/** The tag of a store: what comes after the last colon of its reference, `latest` without one. */
function tagOf(store: ImageStore): string {
  if (store.kind === "registry") {
    const { tag } = parseReference(store.reference);
    if (tag === undefined)
      throw new EstargzError("INVALID_ARGUMENT", "an image with an external TOC needs a tag: readers find the TOC by it");
    return tag;
  }
  return /:([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})$/.exec(store.reference.slice(store.reference.indexOf(":") + 1))?.[1] ?? "latest";
}

/**
 * Stores the TOCs of layers as an image of its own, beside the image they belong to.
 *
 * @returns Its tag.
 */
export async function pushTocImage(destination: ImageStore, layers: readonly ConvertedLayer[], signal: AbortSignal): Promise<string> {
  const tocs = new Map<string, Descriptor>();
  for (const { to, externalToc } of layers) {
    if (externalToc === undefined || tocs.has(to.digest)) continue;
    const { mediaType, digest, size, annotations } = externalToc;
    const descriptor: Descriptor = { mediaType, digest, size, annotations: { ...annotations, [LAYER_DIGEST_ANNOTATION]: to.digest } };
    await destination.pushBlob(descriptor, externalToc.bytes, { signal });
    tocs.set(to.digest, descriptor);
  }
  const config = await pushJsonBlob(destination, OCI_CONFIG, {}, signal);
  const sorted = [...tocs].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, descriptor]) => descriptor);
  const tag = `${tagOf(destination)}${TOC_IMAGE_SUFFIX}`;
  await pushJson(destination, OCI_MANIFEST, { schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers: sorted }, { tag, signal });
  return tag;
}

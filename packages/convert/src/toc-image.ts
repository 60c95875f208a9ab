import { LAYER_DIGEST_ANNOTATION } from "@estargz/format";
import type { Descriptor } from "@estargz/interface";
import { externalTocTag, type ImageStore, OCI_CONFIG, OCI_MANIFEST } from "@estargz/registry";
import type { ConvertedLayer } from "./convert-layer.ts";
import { pushJson, pushJsonBlob } from "./push-json.ts";

/**
 * Stores the TOCs of layers as an image of its own, beside the image they belong to.
 *
 * @returns Its tag.
 * @throws `INVALID_REFERENCE` for a destination without a tag: readers find the TOC by it.
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
  const tag = externalTocTag(destination);
  await pushJson(destination, OCI_MANIFEST, { schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers: sorted }, { tag, signal });
  return tag;
}

import { type Descriptor, EstargzError, type Platform } from "@estargz/interface";
import type { ResolvedImage } from "./image-store.ts";
import { choosePlatform, type FetchedManifest, hostPlatform } from "./manifest.ts";

/** Indexes may nest; no sane image does so deeper. */
const MAX_DEPTH = 4;

/** Goes from what a tag leads to to one image's manifest. */
export async function resolveImage(
  root: FetchedManifest,
  platform: Platform | undefined,
  fetch: (descriptor: Descriptor) => Promise<FetchedManifest>,
): Promise<ResolvedImage> {
  const wanted = platform ?? hostPlatform();
  let current = root;
  let index: ResolvedImage["index"];
  for (let depth = 0; current.kind === "index"; depth++) {
    if (depth === MAX_DEPTH) throw new EstargzError("LIMIT_EXCEEDED", `${root.descriptor.digest} nests indexes deeper than ${MAX_DEPTH}`);
    index = current.index;
    current = await fetch(choosePlatform(index, wanted));
  }
  return { root, index, descriptor: current.descriptor, manifest: current.manifest, bytes: current.bytes };
}

import {
  type AttachedLayer,
  type AttachRequest,
  type Digest,
  EstargzError,
  type LayerLocation,
  parseDigest,
  type ReaderAt,
} from "@estargz/interface";
import type { HeldLayer } from "./held-layer.ts";
import type { LayerIndex } from "./layer-index.ts";

/** Annotation of a layer's descriptor that names its TOC's digest. */
export const TOC_DIGEST_ANNOTATION = "containerd.io/snapshot/stargz/toc.digest";

/**
 * The blob's digest that all locations name.
 *
 * @throws `INVALID_ARGUMENT`
 */
export function digestOf(locations: readonly LayerLocation[]): Digest {
  const [first] = locations;
  if (first === undefined) throw new EstargzError("INVALID_ARGUMENT", "a layer needs at least one location to be read from");
  const { digest } = first.descriptor;
  if (locations.some((location) => location.descriptor.digest !== digest)) {
    throw new EstargzError("INVALID_ARGUMENT", "all locations of a layer have to name the same blob digest");
  }
  return digest;
}

/** The TOC's digest that a request names, itself or by its annotation. */
export function tocDigestOf(request: Omit<AttachRequest, "owner">): Digest | undefined {
  const annotated = request.locations[0]?.descriptor.annotations?.[TOC_DIGEST_ANNOTATION];
  return request.tocDigest ?? (annotated === undefined ? undefined : parseDigest(annotated));
}

/** What an owner is told of its layer. */
export function attachedLayer(owner: string, layer: HeldLayer): AttachedLayer {
  const { index } = layer.fill.store;
  return {
    owner,
    path: layer.path ?? "",
    exactPath: layer.exactPath,
    layerDigest: layer.layerDigest,
    tocDigest: layer.tocDigest,
    rootOwner: { uid: index.uid(0), gid: index.gid(0) },
  };
}

/** Chunks of files, by path, in order. Paths that are not there are passed over. */
export function chunksOf(index: LayerIndex, paths: readonly string[]): number[] {
  const chunks: number[] = [];
  for (const path of paths) {
    let inode = 0;
    for (const name of path.split("/")) if (inode >= 0 && name !== "" && name !== ".") inode = index.lookup(inode, Buffer.from(name));
    if (inode < 0) continue;
    const first = index.firstChunk(inode);
    for (let chunk = first; chunk < first + index.chunksOf(inode); chunk++) chunks.push(chunk);
  }
  return chunks;
}

/** Waits for shared work until the caller's signal: the work goes on. */
export async function raceSignal<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  signal.throwIfAborted();
  let onAbort: () => void = () => undefined;
  try {
    return await Promise.race([
      work,
      new Promise<never>((_resolve, reject) => {
        onAbort = () => reject(signal.reason);
        signal.addEventListener("abort", onAbort, { once: true });
      }),
    ]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/** Closes readers, whatever becomes of it. */
export async function closeAll(readers: readonly ReaderAt[]): Promise<void> {
  await Promise.allSettled(readers.map(async (reader) => reader.close?.()));
}

import type { Descriptor, Platform } from "@estargz/interface";
import { type FetchedManifest, type ImageStore, OCI_INDEX } from "@estargz/registry";
import { copyBlob } from "./copy-blob.ts";
import { mapLimit } from "./map-limit.ts";
import { isForeignLayer } from "./media-types.ts";
import { selectManifests } from "./platforms.ts";
import { pushJson } from "./push-json.ts";

/** Options of {@link copyImage}. */
export interface CopyOptions {
  /** Platforms of an index to take; a new index is written then. Default: everything, byte for byte. */
  readonly platforms?: readonly Platform[] | undefined;
  /** Whether the destination's tag is set. Default true. */
  readonly tagged?: boolean | undefined;
  /** Blobs that are copied at the same time. Default 3. */
  readonly concurrency?: number | undefined;
  /** Told about every byte that is read, and how many there will be. */
  readonly onEvent?: ((event: { readonly type: "total" | "bytes"; readonly bytes: number }) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

async function copyManifest(
  source: ImageStore,
  destination: ImageStore,
  fetched: FetchedManifest,
  untagged: boolean,
  options: CopyOptions,
): Promise<Descriptor> {
  const { signal, onEvent } = options;
  if (fetched.kind === "index") return copyIndex(source, destination, fetched, untagged, options);
  const { config, layers } = fetched.manifest;
  const blobs = [config, ...layers.filter(({ mediaType }) => !isForeignLayer(mediaType))];
  onEvent?.({ type: "total", bytes: blobs.reduce((sum, { size }) => sum + size, 0) });
  await mapLimit(
    blobs,
    options.concurrency ?? 3,
    async (blob, _index, inner) => {
      let read = 0;
      const onBytes = (bytes: number): void => {
        read += bytes;
        onEvent?.({ type: "bytes", bytes });
      };
      await copyBlob(source, destination, blob, { signal: inner, onBytes });
      if (read < blob.size) onEvent?.({ type: "bytes", bytes: blob.size - read });
    },
    signal,
  );
  const { mediaType } = fetched.descriptor;
  const { digest, size } = await destination.pushManifest(fetched.bytes, { mediaType, untagged, signal });
  return { mediaType, digest, size };
}

async function copyIndex(
  source: ImageStore,
  destination: ImageStore,
  fetched: FetchedManifest & { readonly kind: "index" },
  untagged: boolean,
  options: CopyOptions,
): Promise<Descriptor> {
  const { signal, platforms } = options;
  const { index, bytes, descriptor } = fetched;
  const chosen = platforms === undefined ? index.manifests : selectManifests(index.manifests, platforms);
  for (const entry of chosen) await copyManifest(source, destination, await source.fetchManifest(entry, { signal }), true, options);
  if (platforms === undefined) {
    const { digest, size } = await destination.pushManifest(bytes, { mediaType: descriptor.mediaType, untagged, signal });
    return { mediaType: descriptor.mediaType, digest, size };
  }
  const document = {
    schemaVersion: 2,
    mediaType: OCI_INDEX,
    manifests: chosen,
    ...(index.annotations === undefined ? {} : { annotations: index.annotations }),
  };
  return pushJson(destination, OCI_INDEX, document, { untagged, signal: signal ?? new AbortController().signal });
}

/**
 * Copies an image, with all that its index names, without changing a byte of it: its digest stays.
 *
 * @returns The manifest or index that the destination's tag leads to now.
 * @throws The codes of both places. Aborts with the signal's reason; no tag is set then.
 */
export async function copyImage(source: ImageStore, destination: ImageStore, options: CopyOptions = {}): Promise<Descriptor> {
  const root = await source.fetchManifest(undefined, { signal: options.signal });
  return copyManifest(source, destination, root, options.tagged === false, options);
}

import type { Descriptor } from "@estargz/interface";
import { type ImageStore, type PushOutcome, parseReference } from "@estargz/registry";

/** Repositories of the destination's registry that blobs of the source may be mounted from. */
function mountSources(source: ImageStore, destination: ImageStore): string[] {
  if (source.kind !== "registry" || destination.kind !== "registry") return [];
  const [from, to] = [parseReference(source.reference), parseReference(destination.reference)];
  return from.host === to.host ? [from.repository] : [];
}

/** Options of {@link copyBlob}. */
export interface CopyBlobOptions {
  readonly signal?: AbortSignal | undefined;
  /** Told about bytes that were read; not at all when the destination has the blob. */
  readonly onBytes?: ((count: number) => void) | undefined;
}

async function* counted(bytes: AsyncIterable<Uint8Array>, onBytes: (count: number) => void): AsyncGenerator<Uint8Array> {
  for await (const piece of bytes) {
    onBytes(piece.length);
    yield piece;
  }
}

/** Brings one blob from a place to another, verified on the way; without its bytes where the destination has it or can mount it. */
export function copyBlob(
  source: ImageStore,
  destination: ImageStore,
  descriptor: Descriptor,
  options: CopyBlobOptions = {},
): Promise<PushOutcome> {
  const { signal, onBytes = (): void => {} } = options;
  const content = (): AsyncIterable<Uint8Array> => counted(source.streamBlob(descriptor, { signal }), onBytes);
  return destination.pushBlob(descriptor, content, { signal, mountFrom: mountSources(source, destination) });
}

import { type Digest, EstargzError, isEstargzError, type LayerLocation, type LayerSource, type ReaderAt } from "@estargz/interface";
import { closeAll } from "../attach-request.ts";
import type { LayerIndex } from "../layer-index.ts";
import type { LayerOpener } from "./layer-opener.ts";

/**
 * Opens a layer from the first of its locations that works.
 *
 * @returns The packed index and a reader for each location, in their order.
 * @throws The error of the only location; of several, the first one's code with all of them as the cause.
 */
export async function openFromLocations(
  opener: LayerOpener,
  request: {
    readonly source: LayerSource;
    readonly locations: readonly LayerLocation[];
    readonly tocDigest: Digest | undefined;
    readonly allowUnverified: boolean;
    readonly externalToc: ((location: LayerLocation) => Promise<Uint8Array>) | undefined;
    readonly signal: AbortSignal;
  },
): Promise<{ readonly index: LayerIndex; readonly readers: readonly ReaderAt[] }> {
  const { source, locations, tocDigest, allowUnverified, externalToc, signal } = request;
  const readers = locations.map((location) => source.open(location));
  const errors: unknown[] = [];
  for (const [at, location] of locations.entries()) {
    const blob = readers[at];
    if (blob === undefined) continue;
    try {
      const index = await opener.open({
        blob,
        layerDigest: location.descriptor.digest,
        tocDigest,
        allowUnverified,
        annotations: location.descriptor.annotations,
        externalToc: externalToc === undefined ? undefined : () => externalToc(location),
        signal,
      });
      return { index, readers };
    } catch (error) {
      errors.push(error);
    }
  }
  await closeAll(readers);
  if (errors.length === 1) throw errors[0];
  const codes = errors.map((error) => (isEstargzError(error) ? error.code : "IO_ERROR"));
  throw new EstargzError(
    codes[0] ?? "UNAVAILABLE",
    `the layer cannot be opened from any of its ${errors.length} locations (${codes.join(", ")})`,
    {
      cause: new AggregateError(errors),
    },
  );
}

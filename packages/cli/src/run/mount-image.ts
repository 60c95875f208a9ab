import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { FIRST_USE_ANNOTATION, TOC_DIGEST_ANNOTATION } from "@estargz/format";
import { type BackgroundPolicy, type MountedLayers, mountLayers } from "@estargz/fs";
import { type Descriptor, EstargzError, isDigest, isEstargzError, type LayerLocation, type LayerSource } from "@estargz/interface";
import { turnReadAheadOff } from "./kernel-read-ahead.ts";

/** The layers of an image, shown as directories. */
export interface MountedImage {
  /** The lowest layer first. */
  readonly paths: readonly string[];
  /** A folder of this process' own beside the layers, for what is written; gone with {@link close}. */
  readonly scratch: string;
  /** For each layer, the lowest first, the chunks that were waited for, in that order. */
  firstUse(): readonly (readonly number[])[];
  /** Takes everything away; what was fetched stays in the state folder. Idempotent. */
  close(): Promise<void>;
}

/** Options of {@link mountImage}. */
export interface MountImageOptions {
  /** The image as a `LayerLocation` names it. */
  readonly reference: string;
  readonly layers: readonly Descriptor[];
  readonly source: LayerSource;
  /** Gets the TOC of a layer that doesn't hold its own. Default: such a layer is an error. */
  readonly externalToc?: ((layer: Descriptor) => Promise<Uint8Array>) | undefined;
  /** Folder that fetched bytes are kept in; a second process gets a temporary one in it. */
  readonly stateFolder: string;
  /** Takes layers without a TOC digest in the manifest. Default false. */
  readonly allowUnverified?: boolean | undefined;
  /** Default `full`: the rest of the image comes while it is used. */
  readonly background?: BackgroundPolicy | undefined;
  /** Fetches nothing but what is read, so that {@link MountedImage.firstUse} is exact. Default false. */
  readonly exact?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** No chunk comes but the ones that are asked for. */
const EXACT = { background: "off", maxGapBytes: 0, neighbourBytes: 0, readAheadBytes: 0 } as const;

function requests(options: MountImageOptions): Parameters<typeof mountLayers>[0]["layers"] {
  const { reference, layers, allowUnverified = false } = options;
  return layers.map((descriptor, index) => {
    const annotation = descriptor.annotations?.[TOC_DIGEST_ANNOTATION];
    const tocDigest = isDigest(annotation) ? annotation : undefined;
    if (tocDigest === undefined && !allowUnverified) {
      throw new EstargzError(
        "NOT_ESTARGZ",
        `${reference} is not an eStargz image: layer ${index + 1} of ${layers.length} names no TOC digest`,
      );
    }
    if (options.exact !== true) return { locations: [{ reference, descriptor }], tocDigest, allowUnverified };
    // What an earlier record says would be fetched ahead, and missing in this one.
    const { [FIRST_USE_ANNOTATION]: _former, ...annotations } = descriptor.annotations ?? {};
    return { locations: [{ reference, descriptor: { ...descriptor, annotations } }], tocDigest, allowUnverified };
  });
}

async function mountIn(root: string, options: MountImageOptions): Promise<MountedLayers> {
  const { source, background = "full", externalToc, signal } = options;
  const toc = externalToc === undefined ? undefined : ({ descriptor }: LayerLocation) => externalToc(descriptor);
  const exact = options.exact === true ? EXACT : {};
  return mountLayers({ root, source, background, ...exact, externalToc: toc, layers: requests(options), signal });
}

/**
 * Shows all layers of an image, opened at the same time.
 *
 * @throws `NOT_ESTARGZ` naming the first layer that cannot be read lazily, and what `mountLayers` throws.
 */
export async function mountImage(options: MountImageOptions): Promise<MountedImage> {
  await mkdir(options.stateFolder, { recursive: true, mode: 0o700 });
  // Its name is short: overlay options name it once a layer.
  const scratch = await mkdtemp(join(options.stateFolder, "r"));
  let mounted: MountedLayers | undefined;
  const close = async (): Promise<void> => {
    await mounted?.close();
    await rm(scratch, { recursive: true, force: true, maxRetries: 5 });
  };
  try {
    try {
      mounted = await mountIn(join(options.stateFolder, "layers"), options);
    } catch (error) {
      if (!isEstargzError(error, "FAILED_PRECONDITION")) throw error;
      // Another process uses the kept layers: slower, as nothing is local in a folder of our own, but it works.
      mounted = await mountIn(join(scratch, "layers"), options);
    }
    const { layers, fileSystem } = mounted;
    if (options.exact === true) await turnReadAheadOff(layers.map(({ path }) => path));
    const firstUse = (): readonly (readonly number[])[] => layers.map(({ owner }) => fileSystem.firstUse(owner));
    return { paths: layers.map(({ path }) => path), scratch, firstUse, close };
  } catch (error) {
    await close();
    throw error;
  }
}

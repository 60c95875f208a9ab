import type { Digest, LayerLocation } from "@estargz/interface";
import { EstargzError, isDigest } from "@estargz/interface";
import { z } from "zod";
import type { Labels } from "./snapshot.ts";

/** The chain ID that containerd wants the layer committed as. */
export const LABEL_SNAPSHOT_REF = "containerd.io/snapshot.ref";
/** Marks a lazily shown snapshot, as the reference implementation does. */
export const LABEL_REMOTE = "containerd.io/snapshot/remote";
/** Value of {@link LABEL_REMOTE}. */
export const REMOTE_VALUE = "remote snapshot";
/** Why a layer was unpacked by containerd instead of being shown lazily. */
export const LABEL_FALLBACK = "containerd.io/snapshot/remote/estargz.fallback";
/** Path of the upper directory, told on request. */
export const LABEL_UPPER_DIRECTORY = "containerd.io/snapshot/overlay.upperdir";
export const LABEL_UID_MAPPING = "containerd.io/snapshot/uidmapping";
export const LABEL_GID_MAPPING = "containerd.io/snapshot/gidmapping";

const LABEL_TOC_DIGEST = "containerd.io/snapshot/stargz/toc.digest";
const LABEL_SKIP_VERIFY = "containerd.io/snapshot/remote/stargz.skipverify";
const LABEL_PREFETCH = "containerd.io/snapshot/remote/stargz.prefetch";
const LABEL_MANIFEST_DIGEST = "containerd.io/snapshot/cri.manifest-digest";
const URLS = "containerd.io/snapshot/remote/urls";

/** The two families of labels that say where a layer comes from; the first that is complete wins. */
const FAMILIES = [
  {
    reference: "containerd.io/snapshot/cri.image-ref",
    digest: "containerd.io/snapshot/cri.layer-digest",
    layers: "containerd.io/snapshot/cri.image-layers",
  },
  {
    reference: "containerd.io/snapshot/remote/stargz.reference",
    digest: "containerd.io/snapshot/remote/stargz.digest",
    layers: "containerd.io/snapshot/remote/stargz.layers",
  },
] as const;

/** What containerd allows for a label's key and value together. */
const MAX_LABEL_BYTES = 4096;
const MAX_LAYERS = 512;
/** Type of a layer whose manifest was not seen; readers look at the blob itself. */
const UNKNOWN_MEDIA_TYPE = "application/octet-stream";

/** What the labels of a layer say. */
export interface LayerLabels {
  /** The layer's own place. */
  readonly location: LayerLocation;
  readonly tocDigest: Digest | undefined;
  /** The client asked not to verify this image. */
  readonly skipVerify: boolean;
  readonly prefetchBytes: number;
  /** Places of the image's other layers that labels tell of, as far as they fitted. */
  readonly neighbours: readonly LayerLocation[];
  readonly manifestDigest: Digest | undefined;
}

const digest = z.custom<Digest>(isDigest, "not a sha256 or sha512 digest");
const prefetch = z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER);

/** Checks keys and sizes of labels. */
export function checkLabels(labels: Labels): void {
  for (const [key, value] of Object.entries(labels)) {
    const length = Buffer.byteLength(key) + Buffer.byteLength(value);
    if (length > MAX_LABEL_BYTES) {
      throw new EstargzError(
        "INVALID_ARGUMENT",
        `label ${key.slice(0, 64)} and its value have ${length} bytes: at most ${MAX_LABEL_BYTES} are allowed`,
      );
    }
  }
}

function parseWith<T>(schema: z.ZodType<T>, key: string, value: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new EstargzError("INVALID_ARGUMENT", `label ${key}: ${result.error.issues[0]?.message ?? "invalid value"}`);
}

function annotationsOf(labels: Labels): Record<string, string> {
  const skipped = new Set<string>([...FAMILIES.flatMap(Object.values<string>), LABEL_FALLBACK, LABEL_REMOTE]);
  return Object.fromEntries(Object.entries(labels).filter(([key]) => key.startsWith("containerd.io/snapshot/") && !skipped.has(key)));
}

function urlsOf(value: string | undefined): readonly string[] | undefined {
  const urls = value?.split(",").filter((url) => url !== "");
  return urls === undefined || urls.length === 0 ? undefined : urls;
}

function neighboursOf(labels: Labels, reference: string, own: Digest, list: string | undefined): LayerLocation[] {
  const digests = (list ?? "").split(",").slice(0, MAX_LAYERS);
  const found = new Map<Digest, LayerLocation>();
  for (const [position, text] of digests.entries()) {
    if (!isDigest(text) || text === own || found.has(text)) continue;
    const urls = urlsOf(labels[`${URLS}.${position}`]);
    found.set(text, { reference, descriptor: { mediaType: UNKNOWN_MEDIA_TYPE, digest: text, size: -1, ...(urls ? { urls } : {}) } });
  }
  return [...found.values()];
}

/**
 * Reads where a layer comes from, as containerd's CRI plugin, its transfer service, nerdctl and ctr-remote tell it.
 *
 * @returns `undefined` when the labels name no image and layer.
 * @throws `INVALID_ARGUMENT` for a malformed digest or number.
 */
export function parseLayerLabels(labels: Labels): LayerLabels | undefined {
  const family = FAMILIES.find((names) => labels[names.reference] !== undefined && labels[names.digest] !== undefined);
  if (family === undefined) return undefined;
  const reference = labels[family.reference] ?? "";
  const layerDigest = parseWith(digest, family.digest, labels[family.digest] ?? "");
  const toc = labels[LABEL_TOC_DIGEST];
  const manifest = labels[LABEL_MANIFEST_DIGEST];
  const urls = urlsOf(labels[URLS]);
  return {
    location: {
      reference,
      descriptor: {
        mediaType: UNKNOWN_MEDIA_TYPE,
        digest: layerDigest,
        size: -1,
        annotations: annotationsOf(labels),
        ...(urls === undefined ? {} : { urls }),
      },
    },
    tocDigest: toc === undefined ? undefined : parseWith(digest, LABEL_TOC_DIGEST, toc),
    skipVerify: labels[LABEL_SKIP_VERIFY] === "true",
    prefetchBytes: labels[LABEL_PREFETCH] === undefined ? 0 : parseWith(prefetch, LABEL_PREFETCH, labels[LABEL_PREFETCH]),
    neighbours: neighboursOf(labels, reference, layerDigest, labels[family.layers]),
    manifestDigest: manifest !== undefined && isDigest(manifest) ? manifest : undefined,
  };
}

/** Host and repository of an image reference: what access is granted for. */
export function repositoryOf(reference: string): string {
  const withoutDigest = reference.split("@", 1)[0] ?? "";
  const slash = withoutDigest.lastIndexOf("/");
  const colon = withoutDigest.indexOf(":", slash + 1);
  return colon === -1 ? withoutDigest : withoutDigest.slice(0, colon);
}

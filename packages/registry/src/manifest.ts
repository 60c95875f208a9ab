import { type Descriptor, type Digest, EstargzError, isDigest, type Platform } from "@estargz/interface";
import { z } from "zod";
import { DOCKER_INDEX, DOCKER_MANIFEST, isIndexMediaType, OCI_INDEX, OCI_MANIFEST } from "./media-types.ts";

/** Most bytes of a manifest or index that are read. Registries accept 4 MiB (distribution-spec, "Pushing Manifests"). */
export const MAX_MANIFEST_BYTES: number = 4 * 1024 * 1024;
/** Most bytes of an image configuration that are read. */
export const MAX_CONFIG_BYTES: number = 16 * 1024 * 1024;

/** An image manifest. */
export interface ImageManifest {
  readonly schemaVersion: 2;
  readonly mediaType: string;
  readonly artifactType?: string | undefined;
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
  readonly subject?: Descriptor | undefined;
  readonly annotations?: Readonly<Record<string, string>> | undefined;
}

/** An image index or manifest list. */
export interface ImageIndex {
  readonly schemaVersion: 2;
  readonly mediaType: string;
  readonly artifactType?: string | undefined;
  readonly manifests: readonly Descriptor[];
  readonly subject?: Descriptor | undefined;
  readonly annotations?: Readonly<Record<string, string>> | undefined;
}

/** What of an image's configuration is read here; the rest is kept as it is. */
export interface ImageConfig {
  readonly os?: string | undefined;
  readonly architecture?: string | undefined;
  readonly variant?: string | undefined;
  readonly rootfs?: { readonly type: string; readonly diff_ids: readonly Digest[] } | undefined;
  readonly [key: string]: unknown;
}

/** A manifest or index with its exact bytes: the descriptor's digest is theirs. */
export type FetchedManifest =
  | { readonly kind: "manifest"; readonly descriptor: Descriptor; readonly bytes: Uint8Array; readonly manifest: ImageManifest }
  | { readonly kind: "index"; readonly descriptor: Descriptor; readonly bytes: Uint8Array; readonly index: ImageIndex };

const digestSchema = z.custom<Digest>((value) => isDigest(value), "is not a sha256 or sha512 digest");
const annotationsSchema = z.record(z.string(), z.string());
const platformSchema = z.object({ os: z.string(), architecture: z.string(), variant: z.string().optional() });
const descriptorSchema = z.object({
  mediaType: z.string().max(255),
  digest: digestSchema,
  size: z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER),
  annotations: annotationsSchema.nullish().transform((value) => value ?? undefined),
  urls: z
    .array(z.string())
    .max(64)
    .nullish()
    .transform((value) => value ?? undefined),
  platform: platformSchema.nullish().transform((value) => value ?? undefined),
  artifactType: z.string().optional(),
});
const commonFields = {
  schemaVersion: z.literal(2),
  mediaType: z.string().optional(),
  artifactType: z.string().optional(),
  subject: descriptorSchema.nullish().transform((value) => value ?? undefined),
  annotations: annotationsSchema.nullish().transform((value) => value ?? undefined),
};
const manifestSchema = z.object({ ...commonFields, config: descriptorSchema, layers: z.array(descriptorSchema).max(1000) });
const indexSchema = z.object({ ...commonFields, manifests: z.array(descriptorSchema).max(10_000) });
const configSchema = z.looseObject({
  os: z.string().optional(),
  architecture: z.string().optional(),
  variant: z.string().optional(),
  rootfs: z.object({ type: z.string(), diff_ids: z.array(digestSchema).max(1000) }).optional(),
});

/** Removes keys whose value is `undefined`, so that parsed objects print and compare as they were written. */
function compact<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)) as T;
}

function parseJson(bytes: Uint8Array, what: string): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new EstargzError("INVALID_RESPONSE", `${what} is not JSON`, { cause });
  }
}

function check<T>(schema: z.ZodType<T>, value: unknown, what: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw new EstargzError("INVALID_RESPONSE", `${what} is malformed at ${issue?.path.join(".") ?? ""}: ${issue?.message ?? ""}`, {
    cause: result.error,
  });
}

/** Parses one descriptor, as index.json and referrers lists hold it. */
export function parseDescriptor(value: unknown, what: string): Descriptor {
  return compact(check(descriptorSchema as unknown as z.ZodType<Descriptor>, value, what));
}

/**
 * Parses the bytes of a manifest or an index. `mediaType` is what its Content-Type or descriptor said; what the
 * document says of itself must not contradict it (image-spec: "mediaType").
 *
 * @throws `INVALID_RESPONSE` for malformed documents, `UNSUPPORTED` for Docker's schema 1.
 */
export function parseManifest(bytes: Uint8Array, digest: Digest, mediaType: string | undefined): FetchedManifest {
  const what = `manifest ${digest}`;
  const value = parseJson(bytes, what);
  if (typeof value !== "object" || value === null) throw new EstargzError("INVALID_RESPONSE", `${what} is not a JSON object`);
  const fields = value as Readonly<Record<string, unknown>>;
  if (fields["schemaVersion"] === 1) {
    throw new EstargzError("UNSUPPORTED", `${what} is in Docker's schema 1, which registries gave up: push the image again`);
  }
  const hasManifests = Array.isArray(fields["manifests"]);
  if (hasManifests && (Array.isArray(fields["layers"]) || fields["config"] !== undefined)) {
    // CVE-2021-41190: one document that different clients take for different things.
    throw new EstargzError("INVALID_RESPONSE", `${what} is both an index and a manifest`);
  }
  const own = typeof fields["mediaType"] === "string" ? fields["mediaType"] : undefined;
  const known = [OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST].includes(mediaType ?? "") ? mediaType : undefined;
  const type = own ?? known ?? (hasManifests ? OCI_INDEX : OCI_MANIFEST);
  if (isIndexMediaType(type) !== hasManifests) {
    throw new EstargzError("INVALID_RESPONSE", `${what} says it is ${type}, but its fields say otherwise`);
  }
  const descriptor: Descriptor = { mediaType: type, digest, size: bytes.length };
  if (hasManifests) {
    const index = check(indexSchema as unknown as z.ZodType<ImageIndex>, value, what);
    return { kind: "index", descriptor, bytes, index: compact({ ...index, mediaType: type, manifests: index.manifests.map(compact) }) };
  }
  const manifest = check(manifestSchema as unknown as z.ZodType<ImageManifest>, value, what);
  const config = compact(manifest.config);
  return {
    kind: "manifest",
    descriptor,
    bytes,
    manifest: compact({ ...manifest, mediaType: type, config, layers: manifest.layers.map(compact) }),
  };
}

/** Parses an image configuration. @throws `INVALID_RESPONSE` for a malformed one. */
export function parseConfig(bytes: Uint8Array, digest: Digest): ImageConfig {
  const what = `image configuration ${digest}`;
  return compact(check(configSchema as unknown as z.ZodType<ImageConfig>, parseJson(bytes, what), what));
}

const ARCHITECTURES: Readonly<Record<string, string>> = { x64: "amd64", ia32: "386", arm: "arm", arm64: "arm64", ppc64: "ppc64le" };

/** The platform of this process, in the image specification's words; the OS is always Linux, as images' mostly is. */
export function hostPlatform(): Platform {
  return { os: "linux", architecture: ARCHITECTURES[process.arch] ?? process.arch };
}

/** Parses `os/architecture[/variant]`. @throws `INVALID_ARGUMENT`. */
export function parsePlatform(text: string): Platform {
  const [os, architecture, variant, ...rest] = text.split("/");
  if (os === undefined || os === "" || architecture === undefined || architecture === "" || rest.length > 0) {
    throw new EstargzError("INVALID_ARGUMENT", `platform ${JSON.stringify(text)} is not os/architecture[/variant]`);
  }
  return variant === undefined ? { os, architecture } : { os, architecture, variant };
}

/**
 * Chooses an image of an index: the first whose platform fits, exact variants before missing ones. Attestations
 * (`unknown/unknown`) never fit.
 *
 * @throws `NOT_FOUND`, listing what the index has.
 */
export function choosePlatform(index: ImageIndex, wanted: Platform): Descriptor {
  const fits = index.manifests.filter(({ platform }) => platform?.os === wanted.os && platform.architecture === wanted.architecture);
  const variant = wanted.variant ?? (wanted.architecture === "arm64" ? "v8" : undefined);
  const chosen =
    fits.find(({ platform }) => platform?.variant === variant) ??
    (wanted.variant === undefined ? fits[0] : undefined) ??
    fits.find(({ platform }) => platform?.variant === undefined);
  if (chosen !== undefined) return chosen;
  const has = index.manifests.map(({ platform: p }) =>
    p === undefined ? "none" : [p.os, p.architecture, p.variant].filter(Boolean).join("/"),
  );
  const name = [wanted.os, wanted.architecture, wanted.variant].filter(Boolean).join("/");
  throw new EstargzError(
    "NOT_FOUND",
    `the image has no ${name}; it has ${[...new Set(has)].join(", ") || "nothing"}: choose another platform`,
  );
}

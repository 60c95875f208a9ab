import { type Descriptor, EstargzError, type Platform } from "@estargz/interface";

/** Writes a platform as `os/architecture[/variant]`. */
export function platformName(platform: Platform): string {
  return [platform.os, platform.architecture, platform.variant].filter((part) => part !== undefined && part !== "").join("/");
}

/** Attestations (provenance, SBOM) name the digest of the image they are about: after a conversion they would be wrong. */
function isAttestation({ annotations, platform }: Descriptor): boolean {
  return annotations?.["vnd.docker.reference.type"] !== undefined || platform?.os === "unknown";
}

function fits(platform: Platform | undefined, wanted: Platform): boolean {
  if (platform === undefined) return false;
  if (platform.os !== wanted.os || platform.architecture !== wanted.architecture) return false;
  return wanted.variant === undefined || platform.variant === wanted.variant;
}

/**
 * The images of an index that are to be converted, in its order; attestations are left out.
 *
 * @param platforms - Wanted ones; `undefined` for all.
 * @throws `NOT_FOUND` naming a wanted platform that the index hasn't, and what it has.
 */
export function selectManifests(manifests: readonly Descriptor[], platforms?: readonly Platform[]): Descriptor[] {
  const images = manifests.filter((descriptor) => !isAttestation(descriptor));
  if (platforms === undefined) return images;
  for (const wanted of platforms) {
    if (images.some(({ platform }) => fits(platform, wanted))) continue;
    const has = images.map(({ platform }) => (platform === undefined ? "one without a platform" : platformName(platform)));
    throw new EstargzError(
      "NOT_FOUND",
      `the image has no ${platformName(wanted)}; it has ${has.join(", ") || "none"}: choose another platform`,
    );
  }
  return images.filter(({ platform }) => platforms.some((wanted) => fits(platform, wanted)));
}

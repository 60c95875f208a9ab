import { OCI_CONFIG } from "@estargz/registry";

const OCI_LAYER = "application/vnd.oci.image.layer.v1.tar";

const LAYER =
  /^application\/vnd\.(?:oci\.image\.layer\.(?:nondistributable\.)?v1\.tar(?:\+(?:gzip|zstd))?|docker\.image\.rootfs\.(?:foreign\.)?diff\.tar(?:\.(?:gzip|zstd))?)$/;

/** Says whether a descriptor of a manifest is a file system layer (and not an attachment of another kind). */
export function isLayerMediaType(mediaType: string): boolean {
  return LAYER.test(mediaType);
}

/** Says whether a layer may not be pushed elsewhere: its content stays where its `urls` say. */
export function isForeignLayer(mediaType: string): boolean {
  return mediaType.includes(".nondistributable.") || mediaType.includes(".foreign.");
}

/** The OCI media type of a layer or configuration that is kept as it is. */
export function ociMediaType(mediaType: string): string {
  if (mediaType === "application/vnd.docker.container.image.v1+json") return OCI_CONFIG;
  const docker = /^application\/vnd\.docker\.image\.rootfs\.(foreign\.)?diff\.tar(?:\.(gzip|zstd))?$/.exec(mediaType);
  if (docker === null) return mediaType;
  const [, foreign, compression] = docker;
  const base = foreign === undefined ? OCI_LAYER : "application/vnd.oci.image.layer.nondistributable.v1.tar";
  return compression === undefined ? base : `${base}+${compression}`;
}

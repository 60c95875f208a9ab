import type { Digest } from "./digest.ts";

/** Platform of an image manifest (OCI image-spec, image-index.md). */
export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string | undefined;
}

/** A content descriptor (OCI image-spec, descriptor.md). */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  /** Size of the content in bytes; -1 when it is not known (containerd's snapshot labels give no sizes). */
  readonly size: number;
  readonly annotations?: Readonly<Record<string, string>> | undefined;
  /** Alternative places of the content. Never used with credentials. */
  readonly urls?: readonly string[] | undefined;
  readonly platform?: Platform | undefined;
  readonly artifactType?: string | undefined;
}

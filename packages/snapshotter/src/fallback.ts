import type { ErrorCode } from "@estargz/interface";
import { isEstargzError } from "@estargz/interface";
import type { FallbackNote } from "./snapshot-store.ts";

/**
 * Stable codes of why a layer is not shown lazily: those of `EstargzError`, and these.
 *
 * - `NO_IMAGE_LABELS`: containerd did not say which image and layer this is.
 * - `NO_TOC_DIGEST`: the manifest has no TOC digest for the layer: not converted, or the annotation was lost in a copy.
 * - `TARGET_CONFLICT`: another image claims the same chain ID with other content.
 * - `INTERNAL`: anything else.
 */
export type FallbackCode = ErrorCode | "NO_IMAGE_LABELS" | "NO_TOC_DIGEST" | "TARGET_CONFLICT" | "INTERNAL";

/** What to do about each code: shown in logs and by `doctor`. */
const ADVICE: Readonly<Partial<Record<FallbackCode, string>>> = {
  NO_IMAGE_LABELS:
    "set disable_snapshot_annotations = false in containerd's CRI configuration, or pull with nerdctl, ctr-remote or the transfer service",
  NO_TOC_DIGEST: "convert the image (estargz convert SRC DST), and copy images with a tool that keeps annotations",
  NOT_ESTARGZ: "convert the image: estargz convert SRC DST",
  INVALID_FOOTER: "the blob is damaged or no eStargz: convert the image again",
  INVALID_TOC: "the blob's table of contents is damaged: convert the image again",
  DIGEST_MISMATCH: "the blob is not what the manifest says: do not trust this registry's copy; convert and push again",
  UNVERIFIED: "convert the image with a current converter, so that every chunk has a digest",
  UNAUTHORIZED: "give the snapshotter the registry's credentials: see the credentials section of its configuration",
  FORBIDDEN: "the credentials may not pull this repository",
  RANGE_UNSUPPORTED: "the registry does not serve byte ranges: use another registry or a mirror that does",
  REGISTRY_UNAVAILABLE: "check that the node reaches the registry, and its mirrors in hosts.toml",
  TIMEOUT: "the registry answered too slowly: check it, or raise [snapshotter] attach_timeout_sec",
  TARGET_CONFLICT: "two images claim the same layer with different content: one of them is not what it says",
};

/** What to do about a code, if there is something. */
export function adviceFor(code: FallbackCode): string | undefined {
  return ADVICE[code];
}

/** Makes the note that is kept on a snapshot from what made a layer not lazy. */
export function fallbackNote(code: FallbackCode, message: string): FallbackNote {
  const advice = ADVICE[code];
  const text = advice === undefined ? message : `${message}; ${advice}`;
  return { code, message: text.slice(0, 1500) };
}

/** The note for an error. */
export function fallbackFromError(error: unknown): FallbackNote {
  if (isEstargzError(error)) return fallbackNote(error.code, error.message);
  if (error instanceof Error && error.name === "TimeoutError") return fallbackNote("TIMEOUT", "the layer could not be opened in time");
  return fallbackNote("INTERNAL", error instanceof Error ? error.message : String(error));
}

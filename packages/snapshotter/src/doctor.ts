import type { Platform } from "@estargz/interface";
import type { ImageStore } from "@estargz/registry";
import { checkImage } from "./doctor-image.ts";
import { checkNode } from "./doctor-node.ts";

/** What one check found. */
export interface DiagnosisCheck {
  /** Stable name, like `layer.toc-digest`. */
  readonly id: string;
  readonly status: "ok" | "warning" | "failed" | "skipped";
  /** What was found, with the numbers. */
  readonly message: string;
  /** What to do about it; with every warning and failure. */
  readonly fix?: string | undefined;
  /** The layer it is about, counted from 0. */
  readonly layer?: number | undefined;
}

/** Whether an image will be lazy on this node, and why. */
export interface Diagnosis {
  readonly reference: string;
  /** `partly`: some layers will be lazy, containerd pulls the others in full. */
  readonly lazy: "yes" | "partly" | "no";
  readonly lazyLayers: number;
  readonly layers: number;
  readonly checks: readonly DiagnosisCheck[];
}

/** Options of {@link diagnoseImage}. */
export interface DiagnoseOptions {
  /** The image: a registry's repository, or an OCI layout. */
  readonly image: ImageStore;
  readonly platform?: Platform | undefined;
  /** Checks this machine, too: kernel, /dev/fuse, containerd's configuration, the snapshotter's socket. Default true. */
  readonly node?: boolean | undefined;
  /** containerd's configuration file. Default `/etc/containerd/config.toml`. */
  readonly containerdConfig?: string | undefined;
  /** Name of the snapshotter in containerd. Default: the proxy plugin whose name contains `stargz`. */
  readonly snapshotterName?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Says whether an image will be lazy on this node, and what to do where it won't: the image's layers (media types, footers,
 * TOC digests), its registry (credentials, byte ranges), the kernel, and containerd's configuration.
 *
 * Never rejects for what it finds: an image that can't be reached is a failed check. Rejects with the signal's reason.
 */
export async function diagnoseImage(options: DiagnoseOptions): Promise<Diagnosis> {
  const image = await checkImage(options.image, options.platform, options.signal);
  const node = options.node === false ? [] : await checkNode(options);
  options.signal?.throwIfAborted();
  const checks = [...image.checks, ...node];
  const blocked = node.some((check) => check.status === "failed");
  const lazyLayers = blocked ? 0 : image.lazyLayers;
  const lazy = lazyLayers === 0 ? "no" : lazyLayers === image.layers ? "yes" : "partly";
  return { reference: options.image.reference, lazy, lazyLayers, layers: image.layers, checks };
}

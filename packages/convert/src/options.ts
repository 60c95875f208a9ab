import type { WriteLayerOptions } from "@estargz/format";
import { EstargzError, type Platform } from "@estargz/interface";
import type { RecordedFile } from "./record.ts";

/** What happens while an image is converted. */
export type ConvertEvent =
  | { readonly type: "image"; readonly platform: Platform | undefined; readonly layers: number; readonly totalBytes: number }
  | { readonly type: "bytes"; readonly layer: string; readonly readBytes: number }
  | { readonly type: "layer"; readonly layer: string; readonly how: "converted" | "reused" | "kept" };

/** Options of `convertImage`. `level`, `chunkSizeBytes`, `minMemberBytes`, `lossless` and `threads` are the layer writer's. */
export interface ConvertOptions extends Pick<WriteLayerOptions, "level" | "chunkSizeBytes" | "minMemberBytes" | "lossless" | "threads"> {
  /**
   * `estargz` (default) is tar+gzip for everybody; `zstd:chunked` is smaller and needs containerd 1.5 or newer everywhere;
   * `external-toc` keeps the index in an image of its own.
   */
  readonly format?: "estargz" | "zstd:chunked" | "external-toc" | undefined;
  /** Platforms of an index to take. Default: all of them. */
  readonly platforms?: readonly Platform[] | undefined;
  /** Takes layers over that are lazily readable already and whose TOC is what their annotation says. Default false. */
  readonly reuse?: boolean | undefined;
  /** Files that a start reads, in order: they come first in their layers and are fetched ahead. */
  readonly record?: readonly RecordedFile[] | undefined;
  /** Layers that are converted at the same time. Default 2. */
  readonly concurrency?: number | undefined;
  /** Folder for layers that are being written. Default: the system's temporary folder. */
  readonly temporaryFolder?: string | undefined;
  /** Told what happens. */
  readonly onEvent?: ((event: ConvertEvent) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

function range(name: string, value: number | undefined, low: number, high: number): void {
  if (value === undefined || (Number.isSafeInteger(value) && value >= low && value <= high)) return;
  throw new EstargzError("INVALID_ARGUMENT", `${name} ${value} must be a whole number from ${low} to ${high}`);
}

/**
 * Checks options once, before anything is fetched.
 *
 * @throws `INVALID_ARGUMENT` naming the option, its value and its bounds.
 */
export function checkConvertOptions(options: ConvertOptions): void {
  const { chunkSizeBytes } = options;
  if (typeof chunkSizeBytes === "number") range("chunkSizeBytes", chunkSizeBytes, 1, 128 << 20);
  range("minMemberBytes", options.minMemberBytes, 0, 128 << 20);
  range("concurrency", options.concurrency, 1, 64);
  const zstd = options.format === "zstd:chunked";
  range("level", options.level, zstd ? 1 : 0, zstd ? 22 : 9);
  if (options.lossless === true && options.record !== undefined && options.record.length > 0) {
    throw new EstargzError("INVALID_ARGUMENT", "lossless layers keep their order: a record cannot be used with them");
  }
}

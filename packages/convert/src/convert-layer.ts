import { createReadStream } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import {
  openLayer,
  TOC_DIGEST_ANNOTATION,
  UNCOMPRESSED_SIZE_ANNOTATION,
  type WrittenLayer,
  ZSTD_ANNOTATION_PREFIXES,
} from "@estargz/format";
import { type Descriptor, type Digest, isEstargzError } from "@estargz/interface";
import type { ImageStore } from "@estargz/registry";
import { copyBlob } from "./copy-blob.ts";
import { isForeignLayer, ociMediaType } from "./media-types.ts";
import type { ConvertOptions } from "./options.ts";

import { readToItsEnd } from "./read-to-its-end.ts";
import { writeLayerFile } from "./write-layer-file.ts";

/** A layer before and after. */
export interface ConvertedLayer {
  readonly from: Descriptor;
  readonly to: Descriptor;
  /** The written layer's DiffID. */
  readonly diffId: Digest;
  /** `converted`: written anew; `reused`: it was lazily readable already; `kept`: its content may not be moved. */
  readonly how: "converted" | "reused" | "kept";
  /** Files of the record that come first in this layer. */
  readonly frontFiles?: readonly string[] | undefined;
  /** The TOC blob, with the format `external-toc`. */
  readonly externalToc?: WrittenLayer["externalToc"];
}

/** A layer to convert. */
export interface LayerJob {
  readonly source: ImageStore;
  readonly destination: ImageStore;
  readonly descriptor: Descriptor;
  /** DiffID that the image's configuration has for it. */
  readonly diffId: Digest;
  /** Files that come first. */
  readonly prioritizedFiles: readonly string[];
  readonly options: ConvertOptions;
  /** A name in the temporary folder that nobody else uses. */
  readonly temporaryPath: string;
  readonly signal: AbortSignal;
}

async function isLazyAlready(job: LayerJob): Promise<boolean> {
  const { annotations } = job.descriptor;
  if (annotations?.[TOC_DIGEST_ANNOTATION] === undefined) return false;
  const blob = job.source.openBlob(job.descriptor);
  try {
    await openLayer(blob, { annotations, signal: job.signal });
    return true;
  } catch (error) {
    job.signal.throwIfAborted();
    // Reading failed: that is no statement about the layer.
    if (isEstargzError(error, "REGISTRY_UNAVAILABLE", "TIMEOUT", "UNAUTHORIZED", "FORBIDDEN", "RATE_LIMITED")) throw error;
    return false;
  } finally {
    await blob.close?.();
  }
}

async function* counted(bytes: AsyncIterable<Uint8Array>, onBytes: (count: number) => void): AsyncGenerator<Uint8Array> {
  for await (const piece of bytes) {
    onBytes(piece.length);
    yield piece;
  }
}

/** Converts one layer and stores it in the destination. */
export async function convertLayer(job: LayerJob): Promise<ConvertedLayer> {
  const { source, destination, descriptor, options, signal } = job;
  const onBytes = (readBytes: number): void => options.onEvent?.({ type: "bytes", layer: descriptor.digest, readBytes });
  const from = descriptor;
  if (isForeignLayer(descriptor.mediaType)) {
    onBytes(descriptor.size);
    return { from, to: { ...descriptor, mediaType: ociMediaType(descriptor.mediaType) }, diffId: job.diffId, how: "kept" };
  }
  if (options.reuse === true && (await isLazyAlready(job))) {
    await copyBlob(source, destination, descriptor, { signal });
    onBytes(descriptor.size);
    return { from, to: { ...descriptor, mediaType: ociMediaType(descriptor.mediaType) }, diffId: job.diffId, how: "reused" };
  }
  const blob = readToItsEnd(counted(source.streamBlob(descriptor, { signal }), onBytes));
  try {
    const { level, chunkSizeBytes, minMemberBytes, lossless, threads, format = "estargz" } = options;
    const written = await writeLayerFile(blob.bytes, job.temporaryPath, {
      compression: format === "zstd:chunked" ? "zstd" : "gzip",
      externalToc: format === "external-toc",
      prioritizedFiles: job.prioritizedFiles,
      allowMissingFiles: true,
      level,
      chunkSizeBytes,
      minMemberBytes,
      lossless,
      threads,
      signal,
    });
    // Only now is it certain that what was converted is what the descriptor says.
    await blob.finish();
    const { mediaType, digest, size } = written;
    const to: Descriptor = { mediaType, digest, size, annotations: { ...otherAnnotations(descriptor), ...written.annotations } };
    await destination.pushBlob(to, () => createReadStream(job.temporaryPath), { signal });
    const missing = new Set(written.missingFiles);
    const frontFiles = job.prioritizedFiles.filter((path) => !missing.has(path));
    return { from, to, diffId: written.diffId, how: "converted", frontFiles, externalToc: written.externalToc };
  } finally {
    await blob.close();
    await rm(job.temporaryPath, { force: true });
  }
}

/** Annotations that say nothing about how a layer is packed. */
function otherAnnotations({ annotations = {} }: Descriptor): Record<string, string> {
  const own = [TOC_DIGEST_ANNOTATION, UNCOMPRESSED_SIZE_ANNOTATION, ...ZSTD_ANNOTATION_PREFIXES];
  return Object.fromEntries(Object.entries(annotations).filter(([name]) => !own.some((prefix) => name.startsWith(prefix))));
}

/** Where the layer with this number is written before it is pushed. */
export function temporaryPath(folder: string, number: number): string {
  return join(folder, `layer-${number}`);
}

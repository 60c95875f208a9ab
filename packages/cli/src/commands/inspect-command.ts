import { openLayer } from "@estargz/format";
import { type Descriptor, isEstargzError, type Layer } from "@estargz/interface";
import type { Command } from "commander";
import { bytesText, columns } from "../bytes-text.ts";
import type { CliContext } from "../cli-context.ts";
import { addImageOptions } from "../image-options.ts";
import { type OpenedImage, type WithImageOptions, withImage } from "../open-image.ts";

interface InspectedLayer {
  readonly digest: string;
  readonly mediaType: string;
  readonly size: number;
  readonly format: string;
  readonly tocDigest?: string;
  readonly verified?: boolean;
  readonly files?: number;
  readonly chunks?: number;
  readonly prefetchBytes?: number;
  readonly uncompressedBytes?: number;
  /** Why it cannot be read lazily. */
  readonly reason?: string;
}

function describe(descriptor: Descriptor, layer: Layer): InspectedLayer {
  const { digest, mediaType, size } = descriptor;
  const { format, tocDigest, verified, entries, chunks, prefetchEnd } = layer;
  const uncompressedBytes = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  return {
    digest,
    mediaType,
    size,
    format,
    tocDigest,
    verified,
    files: entries.length,
    chunks: chunks.length,
    prefetchBytes: prefetchEnd ?? 0,
    uncompressedBytes,
  };
}

/** Looks at one layer; a layer that is not lazily readable is an answer here, not an error. */
async function inspectLayer(image: OpenedImage, descriptor: Descriptor, signal: AbortSignal): Promise<InspectedLayer> {
  const { annotations, digest, mediaType, size } = descriptor;
  try {
    return describe(
      descriptor,
      await openLayer(image.store.openBlob(descriptor), {
        annotations,
        allowUnverified: true,
        externalToc: () => image.externalToc(descriptor),
        signal,
      }),
    );
  } catch (error) {
    const about = [
      "NOT_ESTARGZ",
      "INVALID_FOOTER",
      "INVALID_TOC",
      "INVALID_COMPRESSION",
      "DIGEST_MISMATCH",
      "LIMIT_EXCEEDED",
      "UNVERIFIED",
    ] as const;
    if (!isEstargzError(error, ...about)) throw error;
    const format = error.code === "NOT_ESTARGZ" ? "not lazy" : "damaged";
    return { digest, mediaType, size, format, reason: error.message };
  }
}

function text(image: OpenedImage, layers: readonly InspectedLayer[]): string {
  const { os = "?", architecture = "?" } = image.config;
  const total = layers.reduce((sum, { size }) => sum + size, 0);
  const lazy = layers.filter(({ format, verified }) => format !== "not lazy" && format !== "damaged" && verified === true).length;
  const rows = layers.map((layer, index) => [
    String(index),
    layer.digest.slice(0, 19),
    bytesText(layer.size),
    layer.verified === false ? `${layer.format}, no TOC digest` : layer.format,
    layer.files === undefined ? "" : String(layer.files),
    layer.chunks === undefined ? "" : String(layer.chunks),
    layer.prefetchBytes === undefined ? "" : bytesText(layer.prefetchBytes),
  ]);
  return [
    `${image.store.reference}\n`,
    `manifest   ${image.descriptor.digest}\n`,
    `platform   ${os}/${architecture}\n`,
    `layers     ${lazy} of ${layers.length} can be read lazily and are verified; ${bytesText(total)} compressed\n\n`,
    columns([["layer", "digest", "size", "format", "files", "chunks", "prefetch"], ...rows], [0, 2, 4, 5, 6]),
  ].join("");
}

/** `estargz inspect IMAGE` */
export function addInspectCommand(program: Command, context: CliContext): void {
  const command = program
    .command("inspect")
    .description("say how an image is made, and which of its layers can be read lazily")
    .argument("<image>")
    .option("--json", "for programs")
    .option("--platform <os/arch>", "image of an index to take");
  addImageOptions(command).action(async (name: string, options: WithImageOptions & { readonly json?: boolean }) => {
    await withImage(name, options, context.signal, async (image) => {
      const layers = await Promise.all(image.manifest.layers.map((descriptor) => inspectLayer(image, descriptor, context.signal)));
      if (options.json !== true) {
        context.stdout.write(text(image, layers));
        return;
      }
      const { os, architecture } = image.config;
      const report = { reference: image.store.reference, manifest: image.descriptor, platform: { os, architecture }, layers };
      context.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
    });
  });
}

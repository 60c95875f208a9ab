import { readFile } from "node:fs/promises";
import { type ConvertOptions, type ConvertResult, convertImage, parseRecord } from "@estargz/convert";
import { parsePlatform } from "@estargz/registry";
import type { Command } from "commander";
import { bytesText } from "../bytes-text.ts";
import type { CliContext } from "../cli-context.ts";
import { addImageOptions, type ImageOptions } from "../image-options.ts";
import { parseInteger, parseSize } from "../numbers.ts";
import { openStore } from "../open-image.ts";
import { createProgressLine } from "../progress.ts";

interface Options extends ImageOptions {
  readonly platform?: string[];
  readonly zstd?: boolean;
  readonly externalToc?: boolean;
  readonly lossless?: boolean;
  readonly level?: number;
  readonly chunkSize?: number;
  readonly minChunkSize?: number;
  readonly prioritize?: string;
  readonly reuse?: boolean;
  readonly concurrency?: number;
  readonly json?: boolean;
}

function gather(value: string, before: string[] = []): string[] {
  return [...before, value];
}

async function convertOptions(options: Options): Promise<ConvertOptions> {
  return {
    format: options.zstd === true ? "zstd:chunked" : options.externalToc === true ? "external-toc" : "estargz",
    platforms: options.platform?.map(parsePlatform),
    lossless: options.lossless,
    level: options.level,
    chunkSizeBytes: options.chunkSize,
    minMemberBytes: options.minChunkSize,
    record: options.prioritize === undefined ? undefined : parseRecord(await readFile(options.prioritize, "utf8")),
    reuse: options.reuse,
    concurrency: options.concurrency,
  };
}

function summary(result: ConvertResult, destination: string): string {
  const layers = new Map(result.images.flatMap((image) => image.layers).map((layer) => [layer.from.digest, layer]));
  const before = [...layers.values()].reduce((sum, { from }) => sum + from.size, 0);
  const after = [...layers.values()].reduce((sum, { to }) => sum + to.size, 0);
  const change = before === 0 ? "" : ` (${after >= before ? "+" : ""}${((after / before - 1) * 100).toFixed(1)} %)`;
  const lines = [
    `${destination}@${result.descriptor.digest}`,
    `${layers.size} layers, ${bytesText(before)} -> ${bytesText(after)}${change}`,
  ];
  if (result.tocTag !== undefined) lines.push(`the TOCs are in the image with tag ${result.tocTag}`);
  return `${lines.join("\n")}\n`;
}

/** `estargz convert SOURCE DESTINATION` */
export function addConvertCommand(program: Command, context: CliContext): void {
  const command = program
    .command("convert")
    .description("make an image whose layers can be read lazily")
    .argument("<source>")
    .argument("<destination>")
    .option("--platform <os/arch>", "image of an index to take; may be given several times (default: all)", gather)
    .option("--chunk-size <bytes>", "most uncompressed bytes of a chunk (default: 4MiB); smaller ones let a start fetch less", parseSize)
    .option("--min-chunk-size <bytes>", "let small files share a compressed member of so many bytes (default: 0)", parseSize)
    .option("--level <n>", "compression level: 0 to 9 for gzip (default: 6), 1 to 22 for zstd (default: 3)", parseInteger)
    .option("--zstd", "write zstd:chunked layers")
    .option("--external-toc", "keep the indexes in an image of their own, TAG-esgztoc")
    .option("--lossless", "keep every byte of the tars")
    .option("--prioritize <file>", "file with the paths that a start reads, in order, or a record of ctr-remote optimize")
    .option("--reuse", "take layers over that can be read lazily already")
    .option("--concurrency <n>", "layers in work at the same time (default: 2)", parseInteger)
    .option("--json", "print what was done for programs");
  addImageOptions(command).action(async (from: string, to: string, options: Options) => {
    const settings = await convertOptions(options);
    const source = openStore(from, options);
    const destination = openStore(to, options);
    const progress = createProgressLine(context.stderr, "converting");
    try {
      const result = await convertImage(source, destination, {
        ...settings,
        signal: context.signal,
        onEvent(event) {
          if (event.type === "image") progress.total(event.totalBytes);
          if (event.type === "bytes") progress.add(event.readBytes);
        },
      });
      progress.clear();
      for (const path of result.missingFiles) context.stderr.write(`estargz: no layer has /${path}: it is left out of the order\n`);
      if (options.json === true) context.stdout.write(`${JSON.stringify(jsonResult(result, destination.reference), null, 2)}\n`);
      else context.stdout.write(summary(result, destination.reference));
    } finally {
      progress.clear();
      await Promise.all([source.close(), destination.close()]);
    }
  });
}

function jsonResult(result: ConvertResult, reference: string): unknown {
  const images = result.images.map(({ platform, from, to, layers }) => ({
    platform,
    from: from.digest,
    to: to.digest,
    layers: layers.map((layer) => ({ from: layer.from, to: layer.to, diffId: layer.diffId, how: layer.how })),
  }));
  return { reference, digest: result.descriptor.digest, mediaType: result.descriptor.mediaType, tocTag: result.tocTag, images };
}

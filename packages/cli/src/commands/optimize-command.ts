import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { optimizeImage } from "@estargz/convert";
import { EstargzError } from "@estargz/interface";
import { parsePlatform } from "@estargz/registry";
import type { Command } from "commander";
import type { CliContext } from "../cli-context.ts";
import { addImageOptions } from "../image-options.ts";
import { parseInteger } from "../numbers.ts";
import { type OpenedImage, openStore, type WithImageOptions, withImage } from "../open-image.ts";
import { runContainer } from "../run/container.ts";
import { parseImageConfig } from "../run/image-config.ts";
import { mountImage } from "../run/mount-image.ts";

interface OptimizeOptions extends WithImageOptions {
  readonly period: number;
  readonly env?: string[];
  readonly runtime?: string;
}

/** Runs the image on layers that fetch nothing ahead, and gives what it had to wait for. */
async function record(
  image: OpenedImage,
  args: readonly string[],
  options: OptimizeOptions,
  signal: AbortSignal,
): Promise<readonly (readonly number[])[]> {
  const folder = await mkdtemp(join(tmpdir(), "estargz-optimize-"));
  try {
    const mounted = await mountImage({
      reference: image.store.reference,
      layers: image.manifest.layers,
      source: image.source,
      externalToc: (layer) => image.externalToc(layer),
      stateFolder: folder,
      exact: true,
      signal,
    });
    try {
      const period = AbortSignal.timeout(options.period * 1000);
      const code = await runContainer(mounted.paths, parseImageConfig(image.config), mounted.scratch, {
        command: args,
        environment: options.env,
        runtime: options.runtime,
        terminal: false,
        signal: AbortSignal.any([signal, period]),
      });
      signal.throwIfAborted();
      if (code !== 0 && !period.aborted) {
        throw new EstargzError("FAILED_PRECONDITION", `the container ended with ${code}: its start is no example for others`);
      }
      return mounted.firstUse();
    } finally {
      await mounted.close();
    }
  } finally {
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

function gather(value: string, before: string[] = []): string[] {
  return [...before, value];
}

/** `estargz optimize SOURCE DESTINATION [COMMAND...]` */
export function addOptimizeCommand(program: Command, context: CliContext): void {
  const command = program
    .command("optimize")
    .description("run an image once and write into it what a start reads first; its layers stay as they are")
    .argument("<source>", "an image that can be read lazily")
    .argument("<destination>")
    .argument("[command...]", "instead of the image's command")
    .option("--period <seconds>", "end a container that runs longer", parseInteger, 10)
    .option("-e, --env <name=value>", "environment variable; may be given several times", gather)
    .option("--platform <os/arch>", "image of an index to take")
    .option("--runtime <program>", "OCI runtime (default: runc)")
    .passThroughOptions();
  addImageOptions(command).action(async (from: string, to: string, args: string[], options: OptimizeOptions) => {
    const { signal } = context;
    await withImage(from, options, signal, async (image) => {
      const firstUse = await record(image, args, options, signal);
      const chunks = firstUse.reduce((sum, list) => sum + list.length, 0);
      const destination = openStore(to, options);
      try {
        const platform = options.platform === undefined ? undefined : parsePlatform(options.platform);
        const { digest } = await optimizeImage(image.store, destination, { firstUse, platform, signal });
        context.stderr.write(`estargz: ${chunks} chunks of ${firstUse.length} layers are read by a start\n`);
        context.stdout.write(`${destination.reference}@${digest}\n`);
      } finally {
        await destination.close();
      }
    });
  });
}

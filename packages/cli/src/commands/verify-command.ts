import { openLayer } from "@estargz/format";
import { type Descriptor, EstargzError, isEstargzError, type VerifyLevel, type VerifyReport } from "@estargz/interface";
import { type Command, Option } from "commander";
import { type CliContext, ExitWith } from "../cli-context.ts";
import { describeError } from "../error-message.ts";
import { addImageOptions } from "../image-options.ts";
import { type OpenedImage, type WithImageOptions, withImage } from "../open-image.ts";

interface VerifyOptions extends WithImageOptions {
  readonly level: VerifyLevel;
  readonly json?: boolean;
}

interface LayerResult {
  readonly digest: string;
  readonly ok: boolean;
  readonly report?: VerifyReport;
  readonly error?: string;
}

async function verifyLayer(
  image: OpenedImage,
  descriptor: Descriptor,
  index: number,
  level: VerifyLevel,
  signal: AbortSignal,
): Promise<VerifyReport> {
  const { annotations, digest } = descriptor;
  const layer = await openLayer(image.store.openBlob(descriptor), {
    annotations,
    externalToc: () => image.externalToc(descriptor),
    signal,
  });
  const report = await layer.verify(level, { signal });
  if (report.blobDigest !== undefined && report.blobDigest !== digest) {
    throw new EstargzError("DIGEST_MISMATCH", `the blob of layer ${digest} has digest ${report.blobDigest}`);
  }
  const diffId = image.config.rootfs?.diff_ids[index];
  if (report.diffId !== undefined && report.diffId !== diffId) {
    throw new EstargzError(
      "DIGEST_MISMATCH",
      `layer ${digest} has DiffID ${report.diffId}, and the image's configuration says ${diffId ?? "none"}`,
    );
  }
  return report;
}

/** `estargz verify IMAGE` */
export function addVerifyCommand(program: Command, context: CliContext): void {
  const command = program
    .command("verify")
    .description("prove an image's layers against their digests")
    .argument("<image>")
    .addOption(
      new Option("--level <level>", "toc: the index of each layer; chunks: every chunk too; full: also blob and DiffID")
        .choices(["toc", "chunks", "full"])
        .default("full"),
    )
    .option("--json", "for programs")
    .option("--platform <os/arch>", "image of an index to take");
  addImageOptions(command).action(async (name: string, options: VerifyOptions) => {
    await withImage(name, options, context.signal, async (image) => {
      const results: LayerResult[] = [];
      for (const [index, descriptor] of image.manifest.layers.entries()) {
        const { digest } = descriptor;
        try {
          const report = await verifyLayer(image, descriptor, index, options.level, context.signal);
          results.push({ digest, ok: true, report });
          if (options.json !== true) context.stdout.write(`ok    ${digest}: ${report.entries} files, ${report.chunks} chunks\n`);
        } catch (error) {
          context.signal.throwIfAborted();
          if (isEstargzError(error, "NOT_ESTARGZ", "UNVERIFIED")) throw error;
          results.push({ digest, ok: false, error: describeError(error) });
          if (options.json !== true) context.stdout.write(`WRONG ${digest}: ${describeError(error)}\n`);
        }
      }
      if (options.json === true) context.stdout.write(`${JSON.stringify({ level: options.level, layers: results }, null, 2)}\n`);
      const wrong = results.filter(({ ok }) => !ok);
      if (wrong.length === 0) return;
      context.stderr.write(`estargz: ${wrong.length} of ${results.length} layers are not what the image says\n`);
      throw new ExitWith(1);
    });
  });
}

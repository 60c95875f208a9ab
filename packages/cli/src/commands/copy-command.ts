import { copyImage } from "@estargz/convert";
import { parsePlatform } from "@estargz/registry";
import type { Command } from "commander";
import type { CliContext } from "../cli-context.ts";
import { addImageOptions, type ImageOptions } from "../image-options.ts";
import { openStore } from "../open-image.ts";
import { createProgressLine } from "../progress.ts";

/** `estargz copy SOURCE DESTINATION` */
export function addCopyCommand(program: Command, context: CliContext): void {
  const command = program
    .command("copy")
    .alias("push")
    .description("copy an image from one place to another, byte for byte")
    .argument("<source>")
    .argument("<destination>")
    .option("--platform <os/arch>", "only this image of an index; a new index is written then");
  addImageOptions(command).action(async (from: string, to: string, options: ImageOptions & { readonly platform?: string }) => {
    const platforms = options.platform === undefined ? undefined : [parsePlatform(options.platform)];
    const source = openStore(from, options);
    const destination = openStore(to, options);
    const progress = createProgressLine(context.stderr, "copying");
    try {
      const { digest } = await copyImage(source, destination, {
        platforms,
        signal: context.signal,
        onEvent: ({ type, bytes }) => (type === "total" ? progress.total(bytes) : progress.add(bytes)),
      });
      progress.clear();
      context.stdout.write(`${destination.reference}@${digest}\n`);
    } finally {
      progress.clear();
      await Promise.all([source.close(), destination.close()]);
    }
  });
}

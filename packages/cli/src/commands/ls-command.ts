import type { Command } from "commander";
import type { CliContext } from "../cli-context.ts";
import { addImageOptions } from "../image-options.ts";
import { createImageTree } from "../image-tree.ts";
import { openLayers, type WithImageOptions, withImage } from "../open-image.ts";
import { jsonListing, listNames, longListing } from "./list.ts";

interface LsOptions extends WithImageOptions {
  readonly long?: boolean;
  readonly recursive?: boolean;
  readonly json?: boolean;
  readonly allowUnverified?: boolean;
}

/** `estargz ls IMAGE [PATH]` */
export function addLsCommand(program: Command, context: CliContext): void {
  const command = program
    .command("ls")
    .description("list files of an image without pulling it")
    .argument("<image>")
    .argument("[path]", "file or folder", "/")
    .option("-l, --long", "with modes, owners, sizes and times (UTC)")
    .option("-R, --recursive", "with all that is below")
    .option("--json", "for programs")
    .option("--platform <os/arch>", "image of an index to take")
    .option("--allow-unverified", "read layers whose manifest names no TOC digest");
  addImageOptions(command).action(async (name: string, path: string, options: LsOptions) => {
    await withImage(name, options, context.signal, async (image) => {
      const tree = createImageTree(await openLayers(image, { allowUnverified: options.allowUnverified, signal: context.signal }));
      const names = listNames(tree, path, options.recursive === true);
      if (options.json === true) context.stdout.write(`${JSON.stringify(jsonListing(names), null, 2)}\n`);
      else if (options.long === true) context.stdout.write(longListing(names));
      else context.stdout.write(names.map((listed) => `${listed.name}\n`).join(""));
    });
  });
}

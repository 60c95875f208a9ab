import { EstargzError } from "@estargz/interface";
import type { Command } from "commander";
import type { CliContext } from "../cli-context.ts";
import { addImageOptions } from "../image-options.ts";
import { createImageTree } from "../image-tree.ts";
import { openLayers, type WithImageOptions, withImage } from "../open-image.ts";
import { writeAll } from "../write-all.ts";

interface CatOptions extends WithImageOptions {
  readonly allowUnverified?: boolean;
}

/** `estargz cat IMAGE PATH...` */
export function addCatCommand(program: Command, context: CliContext): void {
  const command = program
    .command("cat")
    .description("write files of an image to standard output; only their own bytes are fetched")
    .argument("<image>")
    .argument("<path...>", "files; symbolic links are followed")
    .option("--platform <os/arch>", "image of an index to take")
    .option("--allow-unverified", "read layers whose manifest names no TOC digest");
  addImageOptions(command).action(async (name: string, paths: string[], options: CatOptions) => {
    await withImage(name, options, context.signal, async (image) => {
      const tree = createImageTree(await openLayers(image, { allowUnverified: options.allowUnverified, signal: context.signal }));
      // All of them are looked up first, so that nothing is written when one is missing.
      const nodes = paths.map((path) => tree.find(path));
      for (const { entry, path } of nodes) {
        if (entry.type === "reg") continue;
        const kind = entry.type === "dir" ? "is a folder: list it with estargz ls" : "is not a regular file";
        throw new EstargzError("INVALID_ARGUMENT", `/${path} ${kind}`);
      }
      for (const { entry, layer } of nodes) await writeAll(context.stdout, layer.streamFile(entry, { signal: context.signal }));
    });
  });
}

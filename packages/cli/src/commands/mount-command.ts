import { once } from "node:events";
import { mkdir, stat } from "node:fs/promises";
import { resolve } from "node:path";
import { EstargzError } from "@estargz/interface";
import { type Command, Option } from "commander";
import type { CliContext } from "../cli-context.ts";
import { addImageOptions } from "../image-options.ts";
import { type WithImageOptions, withImage } from "../open-image.ts";
import { mountImage } from "../run/mount-image.ts";
import { mountOverlay } from "../run/overlay.ts";
import { defaultStateFolder } from "../run/state-folder.ts";
import { addRunnableOptions, type RunnableOptions } from "./runnable-options.ts";

interface MountOptions extends WithImageOptions, RunnableOptions {
  readonly writable?: boolean;
}

async function checkTarget(path: string): Promise<void> {
  const status = await stat(path).catch(() => undefined);
  if (status === undefined) await mkdir(path, { recursive: true });
  else if (!status.isDirectory()) throw new EstargzError("INVALID_ARGUMENT", `${path} is not a folder`);
}

/** `estargz mount IMAGE DIR` */
export function addMountCommand(program: Command, context: CliContext): void {
  const command = program
    .command("mount")
    .description("show an image as a folder until Ctrl-C; bytes come when they are read")
    .argument("<image>")
    .argument("<folder>")
    .addOption(new Option("--writable", "let files be changed; changes are lost at the end"));
  addRunnableOptions(addImageOptions(command)).action(async (name: string, folder: string, options: MountOptions) => {
    const target = resolve(folder);
    await checkTarget(target);
    await withImage(name, options, context.signal, async (image) => {
      const { signal } = context;
      const mounted = await mountImage({
        reference: image.store.reference,
        layers: image.manifest.layers,
        source: image.source,
        externalToc: (layer) => image.externalToc(layer),
        stateFolder: options.root ?? defaultStateFolder(),
        allowUnverified: options.allowUnverified,
        background: options.background,
        signal,
      });
      try {
        const overlay = await mountOverlay({
          lower: mounted.paths,
          target,
          scratch: options.writable === true ? mounted.scratch : undefined,
        });
        try {
          context.stdout.write(`${target}\n`);
          if (!signal.aborted) await once(signal, "abort");
        } finally {
          await overlay.unmount();
        }
      } finally {
        await mounted.close();
      }
    });
  });
}

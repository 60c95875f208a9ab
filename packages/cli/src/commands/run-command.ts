import { resolve } from "node:path";
import { type Command, InvalidArgumentError, Option } from "commander";
import { type CliContext, ExitWith } from "../cli-context.ts";
import { addImageOptions } from "../image-options.ts";
import { type WithImageOptions, withImage } from "../open-image.ts";
import { runContainer } from "../run/container.ts";
import { parseImageConfig } from "../run/image-config.ts";
import { mountImage } from "../run/mount-image.ts";
import type { Bind } from "../run/runtime-spec.ts";
import { defaultStateFolder } from "../run/state-folder.ts";
import { addRunnableOptions, type RunnableOptions } from "./runnable-options.ts";

interface RunOptions extends WithImageOptions, RunnableOptions {
  readonly entrypoint?: string;
  readonly env?: string[];
  readonly workdir?: string;
  readonly user?: string;
  readonly network: "host" | "none";
  readonly volume?: Bind[];
  readonly readOnly?: boolean;
  readonly runtime?: string;
}

function gather(value: string, before: string[] = []): string[] {
  return [...before, value];
}

function parseVolume(text: string, before: Bind[] = []): Bind[] {
  const [source, destination, mode = "rw", ...rest] = text.split(":");
  if (source === undefined || source === "" || destination?.startsWith("/") !== true || rest.length > 0 || !["ro", "rw"].includes(mode)) {
    throw new InvalidArgumentError("a volume is HOST-PATH:/CONTAINER-PATH[:ro].");
  }
  return [...before, { source: resolve(source), destination, readOnly: mode === "ro" }];
}

/** `estargz run IMAGE [COMMAND...]` */
export function addRunCommand(program: Command, context: CliContext): void {
  const command = program
    .command("run")
    .description("run a container of an image that is not here yet; no daemon is needed, only runc")
    .argument("<image>")
    .argument("[command...]", "instead of the image's command")
    .option("--entrypoint <program>", "instead of the image's entrypoint")
    .option("-e, --env <name=value>", "environment variable; may be given several times", gather)
    .option("-w, --workdir <folder>", "working directory")
    .option("-u, --user <user[:group]>", "names of the image, or numbers")
    .addOption(new Option("--network <kind>", "the host's network, or an empty one").choices(["host", "none"]).default("host"))
    .option("-v, --volume <host:container[:ro]>", "folder or file of the host; may be given several times", parseVolume)
    .option("--read-only", "let nothing be written to the root file system")
    .option("--runtime <program>", "OCI runtime (default: runc)")
    .passThroughOptions();
  addRunnableOptions(addImageOptions(command)).action(async (name: string, args: string[], options: RunOptions) => {
    const { signal } = context;
    const code = await withImage(name, options, signal, async (image) => {
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
        return await runContainer(mounted.paths, parseImageConfig(image.config), mounted.scratch, {
          command: args,
          entrypoint: options.entrypoint === undefined ? undefined : [options.entrypoint],
          environment: options.env,
          workingDirectory: options.workdir,
          user: options.user,
          network: options.network,
          binds: options.volume,
          readOnly: options.readOnly,
          runtime: options.runtime,
          signal,
        });
      } finally {
        await mounted.close();
      }
    });
    if (code !== 0) throw new ExitWith(code);
  });
}

import type { BackgroundPolicy } from "@estargz/fs";
import { type Command, Option } from "commander";

/** Options of commands that mount an image. */
export interface RunnableOptions {
  readonly root?: string | undefined;
  readonly background: BackgroundPolicy;
  readonly allowUnverified?: boolean | undefined;
}

/** Adds them to a command. */
export function addRunnableOptions(command: Command): Command {
  return command
    .option("--platform <os/arch>", "image of an index to take")
    .option("--root <folder>", "where fetched bytes are kept (default: /var/lib/estargz for root)")
    .addOption(
      new Option("--background <policy>", "fetch what nobody has read yet: not at all, while nobody reads, all the time")
        .choices(["off", "idle", "full"])
        .default("full"),
    )
    .option("--allow-unverified", "take layers whose manifest names no TOC digest");
}

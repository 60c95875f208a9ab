import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { type CliContext, ExitWith } from "./cli-context.ts";
import { addCatCommand } from "./commands/cat-command.ts";
import { addConvertCommand } from "./commands/convert-command.ts";
import { addCopyCommand } from "./commands/copy-command.ts";
import { addDoctorCommand } from "./commands/doctor-command.ts";
import { addInspectCommand } from "./commands/inspect-command.ts";
import { addLsCommand } from "./commands/ls-command.ts";
import { addMountCommand } from "./commands/mount-command.ts";
import { addOptimizeCommand } from "./commands/optimize-command.ts";
import { addRunCommand } from "./commands/run-command.ts";
import { addVerifyCommand } from "./commands/verify-command.ts";
import { describeError } from "./error-message.ts";

const FOOTER = `
IMAGE, SOURCE and DESTINATION are registry/repository:tag[@digest], oci:FOLDER[:TAG] or oci-archive:FILE.
Credentials come from ~/.docker/config.json and its helpers.`;

/** This package's version. */
function readVersion(): string {
  const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as { readonly version: string };
  return version;
}

/** The whole command line. */
function createProgram(context: CliContext): Command {
  const program = new Command("estargz");
  program
    .enablePositionalOptions()
    .description("Container images that start before they are downloaded: convert, look into, mount and run them.")
    .addHelpText("after", FOOTER)
    .version(readVersion())
    .option("--debug", "show where errors come from")
    .exitOverride()
    .configureOutput({
      writeOut: (text) => void context.stdout.write(text),
      writeErr: (text) => void context.stderr.write(text),
      outputError: (text, write) =>
        write(
          `${text
            .replace(/^error: /, "estargz: ")
            .trimEnd()
            .replaceAll("\n", " ")} (see estargz --help)\n`,
        ),
    });
  for (const add of [
    addConvertCommand,
    addCopyCommand,
    addInspectCommand,
    addLsCommand,
    addCatCommand,
    addVerifyCommand,
    addDoctorCommand,
    addMountCommand,
    addRunCommand,
    addOptimizeCommand,
  ]) {
    add(program, context);
  }
  return program;
}

/** Reasons that commander ends for although nothing is wrong. */
const FINE = new Set(["commander.helpDisplayed", "commander.version", "commander.help"]);

/**
 * Runs the command line to its end and gives its exit code: 0, 1 with one line on standard error, or what a container's
 * program gave.
 */
export async function runCli(args: readonly string[], context: CliContext): Promise<number> {
  const program = createProgram(context);
  try {
    await program.parseAsync([...args], { from: "user" });
    return 0;
  } catch (error) {
    if (error instanceof ExitWith) return error.exitCode;
    // Commander has said it already.
    if (error instanceof CommanderError) return FINE.has(error.code) ? 0 : 1;
    if (context.signal.aborted) return 130;
    context.stderr.write(`estargz: ${describeError(error)}\n`);
    if (program.opts<{ debug?: boolean }>().debug === true && error instanceof Error) context.stderr.write(`${error.stack ?? ""}\n`);
    return 1;
  }
}

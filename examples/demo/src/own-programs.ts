import { fileURLToPath } from "node:url";
import { nodeFlags } from "@estargz/testing";
import { type Program, startProgram } from "./run-program.ts";

const fromSource = process.execArgv.some((flag) => flag.includes("@estargz/source"));

/** Flags of every Node process of the demo: our programs run from their sources when the demo does. */
export const programFlags: readonly string[] = [...nodeFlags, ...(fromSource ? ["--conditions=@estargz/source"] : [])];

function start(packageName: string, bin: string, args: readonly string[]): Program {
  const main = new URL(fromSource ? "src/main.ts" : bin, import.meta.resolve(`${packageName}/package.json`));
  return startProgram(process.execPath, [...programFlags, fileURLToPath(main), ...args]);
}

/** Starts the `estargz` command. */
export function estargz(args: readonly string[]): Program {
  return start("@estargz/cli", "bin/estargz.js", args);
}

/** Starts the snapshotter of `examples/snapshotter`. */
export function estargzSnapshotter(args: readonly string[]): Program {
  return start("@estargz/example-snapshotter", "bin/estargz-snapshotter.js", args);
}

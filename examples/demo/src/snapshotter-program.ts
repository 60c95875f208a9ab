import { fileURLToPath } from "node:url";
import { nodeFlags } from "@estargz/testing";

/** How the snapshotter of `examples/snapshotter` is started: from its sources when the demo runs from sources. */
export function snapshotterProgram(args: readonly string[]): { readonly command: string; readonly args: readonly string[] } {
  const fromSource = process.execArgv.some((flag) => flag.includes("@estargz/source"));
  const file = fromSource ? "src/main.ts" : "bin/estargz-snapshotter.js";
  const main = new URL(file, import.meta.resolve("@estargz/example-snapshotter/package.json"));
  const conditions = fromSource ? ["--conditions=@estargz/source"] : [];
  return { command: process.execPath, args: [...nodeFlags, ...conditions, fileURLToPath(main), ...args] };
}

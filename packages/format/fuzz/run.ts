// The long run: `pnpm run fuzz [--seconds=600] [--target=toc] [--seed=1] [--keep]`. With --keep, inputs that reach something new are added to
// the corpus. Ends with exit code 1 and the input, if one fails.
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { FuzzFailure, fuzz, readCorpus } from "./fuzzer.ts";
import { targets } from "./targets.ts";

const option = (name: string): string | undefined => process.argv.find((argument) => argument.startsWith(`--${name}=`))?.split("=")[1];
const names = option("target")?.split(",") ?? Object.keys(targets);
const maxMs = (Number(option("seconds") ?? 600) * 1000) / names.length;
const seed = Number(option("seed") ?? Date.now() % 2 ** 31);

for (const name of names) {
  const target = targets[name];
  if (target === undefined) throw new Error(`there is no target ${name}; targets are ${Object.keys(targets).join(", ")}`);
  const folder = fileURLToPath(new URL(`./corpus/${name}`, import.meta.url));
  const onInteresting = (bytes: Uint8Array): void => {
    const file = createHash("sha256").update(bytes).digest("hex").slice(0, 16);
    if (process.argv.includes("--keep")) writeFileSync(`${folder}/${file}`, bytes);
  };
  try {
    const result = await fuzz(target, readCorpus(folder).values(), { maxMs, seed, onInteresting });
    const [early, late] = result.heapBytes.map((bytes) => (bytes / 1_048_576).toFixed(1));
    process.stdout.write(
      `${name}: ${result.runs} runs, ${result.features} features, corpus ${result.corpus}, slowest ${result.slowestMs.toFixed(0)} ms, heap ${early} MiB early and ${late} MiB at the end\n`,
    );
  } catch (error) {
    if (!(error instanceof FuzzFailure)) throw error;
    process.stdout.write(`${name}, seed ${seed}: ${error.message}\n${error.cause instanceof Error ? (error.cause.stack ?? "") : ""}\n`);
    process.exitCode = 1;
  }
}

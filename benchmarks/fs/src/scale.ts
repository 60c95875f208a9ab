import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Figures } from "./measures.ts";

/** What scale-process.mjs is asked for. */
interface ScaleStart {
  readonly step: "write" | "cold" | "warm" | "memory" | "memory-warm";
  readonly folder: string;
  readonly files: number;
  readonly layers: number;
  /** How long nothing happens before memory is looked at. */
  readonly restMs: number;
}

interface Answer {
  readonly milliseconds: number;
  readonly rssMegabytes: number;
  /** What the kernel cannot take back when memory is short. */
  readonly anonymousMegabytes: number;
  readonly blobMegabytes: number;
}

async function run(start: ScaleStart): Promise<Answer> {
  const child = fork(fileURLToPath(new URL("./scale-process.mjs", import.meta.url)), [JSON.stringify(start)], {
    execArgv: ["--no-memory-protection-keys", "--expose-gc"],
  });
  const answers: Answer[] = [];
  child.on("message", (message) => answers.push(message as Answer));
  const [code] = await once(child, "exit");
  if (code !== 0) throw new Error(`${start.step} ended with ${code}`);
  return answers[0] ?? { milliseconds: 0, rssMegabytes: 0, anonymousMegabytes: 0, blobMegabytes: 0 };
}

/** Time to mount a layer of very many files, and memory of a daemon with very many layers. */
export async function measureScale(folder: string, tiny: boolean): Promise<Figures> {
  const many = { folder, files: tiny ? 2000 : 100_000, layers: 1, restMs: 0 };
  const wide = { folder, files: tiny ? 200 : 10_000, layers: tiny ? 5 : 100, restMs: tiny ? 0 : 10_000 };
  await run({ step: "write", ...many });
  const cold = await run({ step: "cold", ...many });
  const warm = await run({ step: "warm", ...many });
  await run({ step: "write", ...wide });
  const memory = await run({ step: "memory", ...wide });
  const again = await run({ step: "memory-warm", ...wide });
  return {
    [`attach ${many.files} files from the TOC, ms`]: cold.milliseconds,
    [`attach ${many.files} files from the stored index, ms`]: warm.milliseconds,
    [`RSS with ${wide.layers} layers of ${wide.files} files, first time, MB`]: memory.rssMegabytes - memory.blobMegabytes,
    "of it anonymous, MB": memory.anonymousMegabytes - memory.blobMegabytes,
    [`RSS with ${wide.layers} layers of ${wide.files} files, from stored indexes, MB`]: again.rssMegabytes - again.blobMegabytes,
    "of that anonymous, MB": again.anonymousMegabytes - again.blobMegabytes,
  };
}

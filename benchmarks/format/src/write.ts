import { spawn } from "node:child_process";
import { createReadStream, statSync } from "node:fs";
import { availableParallelism } from "node:os";
import { convertTar } from "@estargz/format";
import { type Comparison, inTurns } from "./measure.ts";

/** Writing a layer against gzip and pigz at the same level, of the same tar. */
export async function benchmarkWrite(
  tarPath: string,
  what: string,
  level: number,
  rounds: number,
  minMemberBytes = 0,
): Promise<Comparison[]> {
  const threads = availableParallelism();
  const sizes: Record<string, number> = {};
  const times = await inTurns(rounds, {
    ours: async () => {
      const output = convertTar(createReadStream(tarPath, { highWaterMark: 1 << 20 }), { level, threads, minMemberBytes });
      for await (const _bytes of output.bytes) continue;
      sizes["ours"] = (await output.result).size;
    },
    gzip: async () => {
      sizes["gzip"] = await outputOf("gzip", [`-${level}`, "-c", tarPath]);
    },
    pigz: async () => {
      sizes["pigz"] = await outputOf("pigz", [`-${level}`, "-p", String(threads), "-c", tarPath]);
    },
  });
  const megabytes = `${(statSync(tarPath).size / 1e6).toFixed(0)} MB of ${what}, ${threads} cores`;
  const against = (peer: "gzip" | "pigz", goal: number): Comparison => {
    const ratio = (times[peer] ?? 0) / (times["ours"] ?? 1);
    return {
      name: `write ${what} at level ${level}, against ${peer}`,
      meaning: `speed / ${peer} -${level}, more is better`,
      ratio,
      goal: `at least ${goal}`,
      met: ratio >= goal,
      oursMs: times["ours"],
      theirsMs: times[peer],
      note: megabytes,
    };
  };
  const size = (sizes["ours"] ?? 0) / (sizes["gzip"] ?? 1);
  return [
    against("pigz", 1),
    against("gzip", 1),
    {
      name: `size of ${what} at level ${level}`,
      meaning: `bytes / gzip -${level}, less is better`,
      ratio: size,
      goal: "at most 1.04",
      met: size <= 1.04,
      note: megabytes,
    },
  ];
}

/** Runs a command and counts its output. */
function outputOf(command: string, args: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"] });
    let bytes = 0;
    child.stdout.on("data", (piece: Buffer) => {
      bytes += piece.length;
    });
    child.once("error", reject);
    child.once("close", (code) => (code === 0 ? resolve(bytes) : reject(new Error(`${command} ended with ${code}`))));
  });
}

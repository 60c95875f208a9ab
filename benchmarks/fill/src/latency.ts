import { fileURLToPath } from "node:url";
import { shell } from "./commands.ts";

/** How long reads took, in microseconds. */
export interface Latency {
  readonly p50: number;
  readonly p99: number;
}

/**
 * What the measuring process is started with: real-time priority, so that its own waiting for a processor is not taken for the
 * file system's. The same by itself and beside something. Empty where that is not permitted.
 */
async function priority(): Promise<string> {
  return shell("chrt -f 1 true").then(
    () => "chrt -f 1",
    () => "",
  );
}

/** Reads files at a fixed rate from another process. */
export async function measureLatency(list: string, first: number, count: number, perSecond: number): Promise<Latency> {
  const program = fileURLToPath(new URL("./latency-process.ts", import.meta.url));
  const times = JSON.parse(
    await shell(`${await priority()} ${process.execPath} ${program} ${list} ${first} ${count} ${perSecond}`),
  ) as number[];
  // The first reads find the process itself cold.
  const warm = times.slice(20).sort((a, b) => a - b);
  const at = (share: number): number => warm[Math.min(warm.length - 1, Math.floor(warm.length * share))] ?? Number.NaN;
  return { p50: at(0.5), p99: at(0.99) };
}

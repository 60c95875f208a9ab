import { fileURLToPath } from "node:url";
import { shell } from "./commands.ts";

/** How long reads took, in microseconds. */
export interface Latency {
  readonly p50: number;
  readonly p99: number;
}

/** Reads files at a fixed rate from another process. */
export async function measureLatency(list: string, first: number, count: number, perSecond: number): Promise<Latency> {
  const program = fileURLToPath(new URL("./latency-process.ts", import.meta.url));
  const times = JSON.parse(await shell(`${process.execPath} ${program} ${list} ${first} ${count} ${perSecond}`)) as number[];
  // The first reads find the process itself cold.
  const warm = times.slice(20).sort((a, b) => a - b);
  const at = (share: number): number => warm[Math.min(warm.length - 1, Math.floor(warm.length * share))] ?? Number.NaN;
  return { p50: at(0.5), p99: at(0.99) };
}

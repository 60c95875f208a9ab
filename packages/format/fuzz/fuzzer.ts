import { readdirSync, readFileSync } from "node:fs";
import { Coverage } from "./coverage.ts";
import { mutate, Random } from "./mutate.ts";
import type { Target } from "./targets.ts";

/** When a run ends: whichever comes first. */
export interface FuzzOptions {
  readonly maxRuns?: number | undefined;
  readonly maxMs?: number | undefined;
  readonly seed: number;
  /** Told of inputs that reach something new. */
  readonly onInteresting?: ((bytes: Uint8Array) => void) | undefined;
}

/** What a run did. */
export interface FuzzResult {
  readonly runs: number;
  readonly corpus: number;
  readonly features: number;
  readonly slowestMs: number;
  /** Bytes of heap after the first tenth of the run and at its end, after collections if `--expose-gc` is on. */
  readonly heapBytes: readonly [number, number];
}

/** An input that made a target fail, with the failure as the cause. */
export class FuzzFailure extends Error {
  readonly input: Uint8Array;
  constructor(input: Uint8Array, cause: unknown) {
    super(`input ${Buffer.from(input).toString("base64")} fails: ${String(cause)}`, { cause });
    this.input = input;
  }
}

/** Inputs of a folder by name. */
export function readCorpus(folder: string): Map<string, Uint8Array> {
  return new Map(
    readdirSync(folder)
      .sort()
      .map((name) => [name, new Uint8Array(readFileSync(`${folder}/${name}`))]),
  );
}

/** Coverage is asked for after so many inputs: it costs more than most of them. */
const BATCH = 16;
const MAX_MS_PER_INPUT = 20_000;

/** Feeds a target with mutations of a corpus, and keeps those that reach blocks that no other did. */
export async function fuzz(target: Target, seeds: Iterable<Uint8Array>, options: FuzzOptions): Promise<FuzzResult> {
  const random = new Random(options.seed);
  const coverage = new Coverage();
  const corpus = [...seeds];
  const started = performance.now();
  let runs = 0;
  let slowestMs = 0;
  let early: number | undefined;
  const run = async (input: Uint8Array): Promise<void> => {
    const before = performance.now();
    try {
      await target(input);
    } catch (error) {
      throw new FuzzFailure(input, error);
    }
    slowestMs = Math.max(slowestMs, performance.now() - before);
    if (slowestMs > MAX_MS_PER_INPUT) throw new FuzzFailure(input, new Error(`it takes ${slowestMs.toFixed(0)} ms`));
    runs += 1;
  };
  const share = (): number => Math.max(runs / (options.maxRuns ?? Infinity), (performance.now() - started) / (options.maxMs ?? Infinity));
  try {
    for (const seed of corpus) await run(seed);
    coverage.take();
    while (share() < 1) {
      const batch = Array.from({ length: BATCH }, () => mutate(random.pick(corpus), corpus, random));
      for (const input of batch) await run(input);
      if (coverage.peek() > 0) {
        // One of them did it; each is run again by itself to see which.
        for (const input of batch) {
          await run(input);
          if (coverage.take() === 0) continue;
          corpus.push(input);
          options.onInteresting?.(input);
        }
      }
      if (early === undefined && share() > 0.1) early = heap();
    }
  } finally {
    coverage.close();
  }
  return { runs, corpus: corpus.length, features: coverage.size, slowestMs, heapBytes: [early ?? heap(), heap()] };
}

function heap(): number {
  (globalThis as { gc?: () => void }).gc?.();
  return process.memoryUsage().heapUsed;
}

/** One line of the result: ours against another's, in one run, in turns. */
export interface Comparison {
  readonly name: string;
  /** What the ratio is of, and which direction is better. */
  readonly meaning: string;
  readonly ratio: number;
  readonly goal: string;
  readonly met: boolean;
  readonly oursMs?: number | undefined;
  readonly theirsMs?: number | undefined;
  readonly note?: string | undefined;
}

/** The middle of some numbers. */
function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? (sorted[middle] as number) : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

/** Runs several subjects in turns and gives the median time of each, in milliseconds. One round warms up. */
export async function inTurns(rounds: number, subjects: Readonly<Record<string, () => unknown>>): Promise<Record<string, number>> {
  const times = new Map<string, number[]>(Object.keys(subjects).map((name) => [name, []]));
  for (let round = 0; round <= rounds; round += 1) {
    for (const [name, run] of Object.entries(subjects)) {
      const started = performance.now();
      await run();
      if (round > 0) times.get(name)?.push(performance.now() - started);
    }
  }
  return Object.fromEntries([...times].map(([name, values]) => [name, median(values)]));
}

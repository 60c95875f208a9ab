import { type ByteRange, EstargzError } from "@estargz/interface";

/** Options of {@link planRuns}. */
export interface PlanOptions {
  /** Gaps up to this many bytes are read across in any case: a part of a multipart answer costs about as much. Default 256. */
  readonly freeGapBytes?: number | undefined;
  /** Longest gap that is read across. Default 32 KiB. */
  readonly maxGapBytes?: number | undefined;
  /** Most bytes read across, as a share of the bytes asked for. Default 0.04. */
  readonly maxOverRead?: number | undefined;
}

/** Checks a range. @throws `OUT_OF_RANGE` for negative or unsafe numbers, or past `size` if that is known. */
export function checkRange(offset: number, length: number, size: number | undefined): void {
  const safe =
    Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0 && Number.isSafeInteger(offset + length);
  if (!safe) throw new EstargzError("OUT_OF_RANGE", `offset ${offset} and length ${length} are not a range of bytes`);
  if (size !== undefined && offset + length > size) {
    throw new EstargzError("OUT_OF_RANGE", `bytes ${offset} to ${offset + length} reach past the blob's ${size} bytes`, {
      details: { offset, length, size },
    });
  }
}

/**
 * Plans the fewest runs of bytes that cover `ranges`: overlapping and touching ones become one, then the smallest gaps
 * are closed while that costs little. The result is by offset and disjoint.
 *
 * @example
 * ```ts
 * planRuns([{ offset: 0, length: 10 }, { offset: 20, length: 10 }]);
 * // => [{ offset: 0, length: 30 }]
 * ```
 */
export function planRuns(ranges: readonly ByteRange[], options: PlanOptions = {}): ByteRange[] {
  const { freeGapBytes = 256, maxGapBytes = 32 * 1024, maxOverRead = 0.04 } = options;
  const sorted = ranges.filter(({ length }) => length > 0).toSorted((a, b) => a.offset - b.offset);
  const runs: { offset: number; length: number }[] = [];
  for (const { offset, length } of sorted) {
    const last = runs.at(-1);
    if (last !== undefined && offset <= last.offset + last.length) {
      last.length = Math.max(last.length, offset + length - last.offset);
    } else runs.push({ offset, length });
  }
  let budget = runs.reduce((sum, { length }) => sum + length, 0) * maxOverRead;
  const closed = new Set<number>();
  const gaps = runs.slice(1).map(({ offset }, index) => {
    const before = runs[index];
    return { after: index, bytes: before === undefined ? 0 : offset - before.offset - before.length };
  });
  for (const { after, bytes } of gaps.toSorted((a, b) => a.bytes - b.bytes)) {
    if (bytes > maxGapBytes) break;
    if (bytes > freeGapBytes) {
      if (bytes > budget) break;
      budget -= bytes;
    }
    closed.add(after);
  }
  const plan: { offset: number; length: number }[] = [];
  runs.forEach((run, index) => {
    const last = plan.at(-1);
    if (last !== undefined && closed.has(index - 1)) last.length = run.offset + run.length - last.offset;
    else plan.push({ ...run });
  });
  return plan;
}

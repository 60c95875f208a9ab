/** One start of a container, from nothing local to its first line. */
export interface StartMeasurement {
  /** From the first command to the first line. */
  readonly seconds: number;
  /** The part of it until the pull command had ended; `undefined` where one command does both. */
  readonly pullSeconds: number | undefined;
  /** Bytes that had come through the link by then. */
  readonly bytes: number;
  readonly requests: number;
}

/** The starts of one way. */
export interface WayResult {
  readonly name: string;
  readonly compressedBytes: number;
  readonly starts: readonly StartMeasurement[];
  readonly median: StartMeasurement;
  /** Share of the compressed size that had been fetched at the first line. */
  readonly shareFetched: number;
}

/** The middle value; the mean of the two middle ones of an even number. */
function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const [low = 0, high = 0] = [sorted[middle - 1] ?? sorted[middle], sorted[middle]];
  return sorted.length % 2 === 1 ? high : (low + high) / 2;
}

/** Sums up the starts of a way. */
export function summarize(name: string, compressedBytes: number, starts: readonly StartMeasurement[]): WayResult {
  const of = (field: keyof StartMeasurement): number => median(starts.map((start) => start[field] ?? Number.NaN));
  const pullSeconds = starts.some((start) => start.pullSeconds === undefined) ? undefined : of("pullSeconds");
  const middle = { seconds: of("seconds"), pullSeconds, bytes: of("bytes"), requests: of("requests") };
  return { name, compressedBytes, starts, median: middle, shareFetched: middle.bytes / compressedBytes };
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

/** The table of all ways, as Markdown; ratios are against the first one. */
export function resultTable(ways: readonly WayResult[]): string {
  const [first] = ways;
  const rows = [["", "first line after", "of that, pull", "received", "requests", "compressed size", "share fetched", "ratio"]];
  for (const way of ways) {
    const { seconds, pullSeconds, bytes, requests } = way.median;
    rows.push([
      way.name,
      `${seconds.toFixed(2)} s`,
      pullSeconds === undefined ? "" : `${pullSeconds.toFixed(2)} s`,
      megabytes(bytes),
      String(Math.round(requests)),
      megabytes(way.compressedBytes),
      `${(way.shareFetched * 100).toFixed(0)} %`,
      `${((first?.median.seconds ?? 0) / seconds).toFixed(2)}x`,
    ]);
  }
  const widths = (rows[0] ?? []).map((_cell, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const line = (row: readonly string[]): string =>
    `| ${row.map((cell, column) => (column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0))).join(" | ")} |`;
  const rule = `|${widths.map((width, column) => (column === 0 ? "-".repeat(width + 2) : `${"-".repeat(width + 1)}:`)).join("|")}|`;
  return [line(rows[0] ?? []), rule, ...rows.slice(1).map(line)].join("\n");
}

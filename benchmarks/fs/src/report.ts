import { cpus, release } from "node:os";
import type { Figures } from "./measures.ts";

/** Medians of each figure over the rounds. */
export function medians(rounds: readonly Figures[]): Figures {
  const names = Object.keys(rounds[0] ?? {});
  return Object.fromEntries(names.map((name) => [name, median(rounds.map((figures) => figures[name] ?? Number.NaN))]));
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? Number.NaN;
}

/** Versions that figures depend on. */
export function describeMachine(): Record<string, string | number> {
  return {
    date: new Date().toISOString(),
    kernel: release(),
    node: process.version,
    processors: cpus().length,
    model: cpus()[0]?.model ?? "",
  };
}

/** Prints figures of all variants, and how many times better the subject is than each. */
export function printTable(title: string, figures: ReadonlyMap<string, Figures>, subject: string): void {
  const names = [...figures.keys()];
  const own = figures.get(subject) ?? {};
  const head = ["", ...names, ...names.filter((name) => name !== subject).map((name) => `vs ${name}`)];
  const rows = Object.keys(own).map((row) => {
    const values = names.map((name) => format(figures.get(name)?.[row]));
    const ratios = names
      .filter((name) => name !== subject)
      .map((name) => format((own[row] ?? 0) / (figures.get(name)?.[row] ?? Number.NaN)));
    return [row, ...values, ...ratios];
  });
  const widths = head.map((_, column) => Math.max(...[head, ...rows].map((row) => row[column]?.length ?? 0)));
  console.log(`\n${title}`);
  for (const row of [head, ...rows])
    console.log(row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0))).join("  "));
}

function format(value: number | undefined): string {
  if (value === undefined || Number.isNaN(value) || !Number.isFinite(value)) return "-";
  if (Math.abs(value) >= 1000) return String(Math.round(value));
  return value.toPrecision(3);
}

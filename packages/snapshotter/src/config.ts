import { EstargzError } from "@estargz/interface";
import { parse } from "smol-toml";
import { z } from "zod";
import { CONFIG_KEYS, type KeyNotes, parseKeys } from "./config-schema.ts";
import type { SnapshotterConfig } from "./config-types.ts";

/** Something in a configuration file that deserves a look. */
export interface ConfigFinding {
  readonly severity: "error" | "warning";
  /** Where, like `snapshotter.unmount_on_exit`. */
  readonly path: string;
  readonly message: string;
}

/** What {@link checkConfig} found. */
export interface ConfigReport {
  /** `undefined` when there are errors that leave no usable configuration. */
  readonly config: SnapshotterConfig | undefined;
  readonly findings: readonly ConfigFinding[];
}

type Shape = Readonly<Record<string, z.ZodType>>;

/** The object schema inside of defaults, if there is one. */
function shapeOf(schema: z.ZodType): Shape | undefined {
  let inner: z.ZodType = schema;
  while (inner instanceof z.ZodPrefault || inner instanceof z.ZodDefault) inner = inner.unwrap() as z.ZodType;
  return inner instanceof z.ZodObject ? (inner.shape as Shape) : undefined;
}

function notesOf(schema: z.ZodType): KeyNotes | undefined {
  return schema.meta() as KeyNotes | undefined;
}

/** Edits that make one word of the other (Levenshtein). */
function distance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (let at = 1; at <= from.length; at += 1) {
    const next = [at];
    for (let index = 1; index <= to.length; index += 1) {
      const same = from[at - 1] === to[index - 1] ? 0 : 1;
      next.push(Math.min((next[index - 1] ?? 0) + 1, (row[index] ?? 0) + 1, (row[index - 1] ?? 0) + same));
    }
    row = next;
  }
  return row[to.length] ?? 0;
}

/** All known keys as paths, to compare a misspelt or misplaced one with. */
function knownPaths(shape: Shape, prefix = ""): string[] {
  return Object.entries(shape).flatMap(([name, schema]) => {
    const inner = shapeOf(schema);
    const path = `${prefix}${name}`;
    return inner === undefined ? [path] : [path, ...knownPaths(inner, `${path}.`)];
  });
}

function nearest(path: string): string {
  const name = path.slice(path.lastIndexOf(".") + 1);
  const score = (known: string): number => {
    const knownName = known.slice(known.lastIndexOf(".") + 1);
    return Math.min(distance(path, known), distance(name, knownName) + 0.5);
  };
  return knownPaths(CONFIG_KEYS).reduce((best, known) => (score(known) < score(best) ? known : best));
}

function inspect(value: Readonly<Record<string, unknown>>, shape: Shape, prefix: string, findings: ConfigFinding[]): void {
  for (const [name, entry] of Object.entries(value)) {
    const path = `${prefix}${name}`;
    const schema = Object.hasOwn(shape, name) ? shape[name] : undefined;
    if (schema === undefined) {
      findings.push({ severity: "error", path, message: `unknown key; the nearest known one is ${nearest(path)}` });
      continue;
    }
    const inner = shapeOf(schema);
    const notes = notesOf(schema);
    if (notes?.status === "ignored") findings.push({ severity: "warning", path, message: `has no effect here: ${notes.note ?? ""}` });
    if (notes?.status === "differs")
      findings.push({ severity: "warning", path, message: `means something else here: ${notes.note ?? ""}` });
    if (inner !== undefined && typeof entry === "object" && entry !== null)
      inspect(entry as Record<string, unknown>, inner, `${path}.`, findings);
  }
}

function dangerous(config: SnapshotterConfig): ConfigFinding[] {
  const findings: ConfigFinding[] = [];
  if (config.disable_verification) {
    findings.push({
      severity: "warning",
      path: "disable_verification",
      message: "what containers see is not proven to be what the image's manifest names",
    });
  }
  if (config.snapshotter.unmount_on_exit) {
    findings.push({
      severity: "warning",
      path: "snapshotter.unmount_on_exit",
      message: "running containers lose their files when the daemon ends",
    });
  }
  return findings;
}

/**
 * Reads a configuration file and says everything there is to say about it: syntax, types, unknown keys with the nearest
 * known one, keys of the reference implementation that mean nothing or something else here.
 */
export function checkConfig(toml: string): ConfigReport {
  let value: Record<string, unknown>;
  try {
    value = parse(toml);
  } catch (error) {
    const [first] = (error instanceof Error ? error.message : String(error)).split("\n");
    return { config: undefined, findings: [{ severity: "error", path: "", message: first ?? "invalid TOML" }] };
  }
  const findings: ConfigFinding[] = [];
  inspect(value, CONFIG_KEYS, "", findings);
  const parsed = parseKeys(value);
  if (!parsed.success) {
    for (const issue of parsed.error.issues) findings.push({ severity: "error", path: issue.path.join("."), message: issue.message });
    return { config: undefined, findings };
  }
  return { config: parsed.data, findings: [...findings, ...dangerous(parsed.data)] };
}

/**
 * Reads a configuration file for use. Unknown keys are left to {@link checkConfig}: an older daemon starts with a newer file.
 *
 * @throws `INVALID_CONFIG` for wrong syntax, types or values.
 */
export function parseConfig(toml: string): SnapshotterConfig {
  const { config, findings } = checkConfig(toml);
  if (config !== undefined) return config;
  const lines = findings.filter((finding) => finding.severity === "error").map((finding) => `${finding.path}: ${finding.message}`);
  throw new EstargzError("INVALID_CONFIG", `the configuration is invalid: ${lines.join("; ")}`);
}

function tomlValue(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(tomlValue).join(", ")}]`;
  return JSON.stringify(value);
}

function renderKeys(shape: Shape, defaults: Readonly<Record<string, unknown>>): string[] {
  return Object.entries(shape).flatMap(([name, schema]) => {
    const notes = notesOf(schema);
    if (shapeOf(schema) !== undefined || notes?.status === "ignored") return [];
    if (typeof defaults[name] === "object" && !Array.isArray(defaults[name])) return [`# ${notes?.help ?? ""}`];
    return [`# ${notes?.help ?? ""}`, `${name} = ${tomlValue(defaults[name])}`];
  });
}

/** The configuration file with every key, its default and what it does. */
export function defaultConfigToml(): string {
  const defaults = parseKeys({}).data as unknown as Record<string, Record<string, unknown>>;
  const lines = ["# Configuration of estargz-snapshotter: every key with its default.", "", ...renderKeys(CONFIG_KEYS, defaults)];
  for (const [name, schema] of Object.entries(CONFIG_KEYS)) {
    const inner = shapeOf(schema);
    if (inner === undefined) continue;
    const keys = renderKeys(inner, defaults[name] ?? {});
    if (keys.length > 0) lines.push("", `# ${notesOf(schema)?.help ?? ""}`, `[${name}]`, ...keys);
  }
  return `${lines.join("\n")}\n`;
}

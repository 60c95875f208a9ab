import { EstargzError } from "@estargz/interface";
import { z } from "zod";

/** A file that a start of the image reads, in the order of first use. */
export interface RecordedFile {
  /** Path from the root, without a leading slash. */
  readonly path: string;
  /** The layer that shows it, 0 for the lowest; `undefined`: any. */
  readonly layerIndex?: number | undefined;
  /** Digest of the manifest that the index belongs to. */
  readonly manifestDigest?: string | undefined;
}

const MAX_FILES = 1_000_000;

const schema = z.object({
  path: z.string().min(1).max(4096),
  manifestDigest: z.string().max(200).optional(),
  layerIndex: z.number().int().min(0).max(1000).optional(),
});

/** Drops leading `/`, `./` and `../`, as the reference writer does with the names it is given. */
function cleanPath(path: string): string {
  return path.replace(/^(?:\.{0,2}\/)+/, "").replace(/\/+$/, "");
}

function parseLine(line: string, number: number): RecordedFile {
  if (!line.startsWith("{")) return { path: cleanPath(line) };
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new EstargzError("INVALID_ARGUMENT", `line ${number} of the record is not JSON`, { cause });
  }
  const parsed = schema.safeParse(value);
  if (!parsed.success) {
    throw new EstargzError("INVALID_ARGUMENT", `line ${number} of the record is not {"path": …, "layerIndex": …}`, { cause: parsed.error });
  }
  return { ...parsed.data, path: cleanPath(parsed.data.path) };
}

/**
 * Parses a record of first use: one file a line, as plain paths (`#` begins a comment) or as the JSON lines that
 * `ctr-remote image optimize --record-out` and `estargz optimize --record-out` write.
 *
 * @throws `INVALID_ARGUMENT` naming the line.
 */
export function parseRecord(text: string): RecordedFile[] {
  const files: RecordedFile[] = [];
  const seen = new Set<string>();
  text.split("\n").forEach((raw, index) => {
    const line = raw.trim();
    if (line === "" || line.startsWith("#")) return;
    const file = parseLine(line, index + 1);
    const key = `${file.layerIndex ?? ""}/${file.path}`;
    if (file.path === "" || seen.has(key)) return;
    seen.add(key);
    files.push(file);
  });
  if (files.length > MAX_FILES) throw new EstargzError("LIMIT_EXCEEDED", `the record names ${files.length} files, more than ${MAX_FILES}`);
  return files;
}

/** Writes a record as JSON lines, in order. */
export function formatRecord(files: readonly RecordedFile[]): string {
  return files.map(({ path, manifestDigest, layerIndex }) => `${JSON.stringify({ path, manifestDigest, layerIndex })}\n`).join("");
}

/** The paths of a record that concern one layer of one image. */
export function filesOfLayer(files: readonly RecordedFile[], layerIndex: number, manifestDigest?: string): string[] {
  const paths = files
    .filter((file) => file.layerIndex === undefined || file.layerIndex === layerIndex)
    .filter((file) => file.manifestDigest === undefined || manifestDigest === undefined || file.manifestDigest === manifestDigest)
    .map(({ path }) => path);
  return [...new Set(paths)];
}

import { readdirSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { cpus, tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { tarOf } from "./make-layers.ts";
import type { Comparison } from "./measure.ts";
import { benchmarkOpen } from "./open.ts";
import { benchmarkRead } from "./read.ts";
import { benchmarkReferenceConvert } from "./reference-convert.ts";
import { benchmarkWrite } from "./write.ts";

const tiny = process.argv.includes("--tiny");
const only = process.argv
  .find((argument) => argument.startsWith("--only="))
  ?.slice(7)
  .split(",");
const wants = (part: string): boolean => only === undefined || only.includes(part);
const root = fileURLToPath(new URL("../../../", import.meta.url));
const modules = relative("/", join(root, "node_modules", ".pnpm"));

/** Large files: Node itself. Small ones: what npm installs. */
async function makeTars(folder: string): Promise<{ large: string; small: string }> {
  const large = join(folder, "large.tar");
  const small = join(folder, "small.tar");
  if (tiny) {
    tarOf(large, relative("/", join(root, "pnpm-lock.yaml")));
    tarOf(small, relative("/", join(root, "packages", "format", "src")));
  } else {
    tarOf(large, relative("/", process.execPath));
    tarOf(small, ...["zod@4.6.7", "vitest@", "typescript@", "undici@8"].map((name) => join(modules, name)).flatMap(matching));
  }
  return { large, small };
}

function matching(prefix: string): string[] {
  const folder = dirname(join("/", prefix));
  return readdirSync(folder)
    .filter((name) => join("/", prefix) === join(folder, name) || join(folder, name).startsWith(join("/", prefix)))
    .map((name) => relative("/", join(folder, name)))
    .slice(0, 1);
}

async function run(): Promise<Comparison[]> {
  const folder = await mkdtemp(join(tmpdir(), "estargz-bench-"));
  try {
    const { large, small } = await makeTars(folder);
    const rounds = tiny ? 1 : 3;
    const results: Comparison[] = [];
    if (wants("open")) results.push(...(await benchmarkOpen(tiny ? 2000 : 100_000, tiny ? 1 : 7)));
    if (wants("read")) {
      const tar = new Uint8Array(await readFile(large));
      for (const chunkSize of [4 << 20, 64 << 10]) results.push(...(await benchmarkRead(tar, chunkSize, rounds)));
    }
    if (wants("write")) {
      results.push(...(await benchmarkWrite(large, "large files", 6, tiny ? 1 : 2)));
      results.push(...(await benchmarkWrite(small, "small files", 6, tiny ? 1 : 2)));
      results.push(...(await benchmarkWrite(small, "small files, packed,", 6, tiny ? 1 : 2, 64 << 10)));
    }
    if (wants("convert")) results.push(...(await benchmarkReferenceConvert(small, "small files", 1)));
    return results;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function print(results: readonly Comparison[]): void {
  for (const { name, ratio, goal, met, meaning, oursMs, theirsMs, note } of results) {
    const times = oursMs === undefined || theirsMs === undefined ? "" : ` (${oursMs.toFixed(1)} ms, theirs ${theirsMs.toFixed(1)} ms)`;
    console.log(
      `${ratio.toFixed(2).padStart(6)}  ${met ? "ok  " : "MISS"}  ${name}: ${meaning}; goal ${goal}${times}${note === undefined ? "" : `; ${note}`}`,
    );
  }
}

const results = await run();
print(results);
if (!tiny) {
  const date = new Date().toISOString().slice(0, 10);
  const machine = { node: process.version, zlib: process.versions.zlib, cpu: cpus()[0]?.model, cores: cpus().length };
  await mkdir(new URL("../results/", import.meta.url), { recursive: true });
  await writeFile(new URL(`../results/${date}.json`, import.meta.url), `${JSON.stringify({ date, machine, results }, null, 2)}\n`);
}

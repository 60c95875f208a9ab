import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Tree } from "./tree.ts";
import type { Mounted, Variant } from "./variants.ts";

const run = promisify(execFile);

/** Figures of one variant in one round: bigger is better, always. */
export type Figures = Record<string, number>;

/** What measuring needs. */
export interface Measuring {
  readonly tree: Tree;
  readonly client: string;
  readonly folder: string;
  /** Blocks read in each random read. */
  readonly randomBlocks: number;
  /** Called before cold measures of the overlay comparison: drops the kernel's caches of everything. */
  readonly dropCaches: (() => void) | undefined;
}

async function client(measuring: Measuring, ...args: string[]): Promise<number> {
  return Number((await run(measuring.client, args)).stdout);
}

async function shell(script: string): Promise<number> {
  const begun = process.hrtime.bigint();
  await run("sh", ["-c", script]);
  return Number(process.hrtime.bigint() - begun) / 1e9;
}

function listOf(measuring: Measuring, mounted: Mounted): string {
  const list = join(measuring.folder, "list");
  writeFileSync(list, measuring.tree.smallFiles.map((file) => `${join(mounted.path, file)}\n`).join(""));
  return list;
}

async function withMount<T>(variant: Variant, body: (mounted: Mounted) => Promise<T>): Promise<T> {
  const mounted = await variant.mount();
  try {
    return await body(mounted);
  } finally {
    await mounted.unmount();
  }
}

/** Cold and warm figures of a variant by itself: each on a fresh mount, data in the page cache of the disk. */
export async function measureAlone(measuring: Measuring, variant: Variant): Promise<Figures> {
  const figures: Figures = {};
  const count = measuring.tree.smallFiles.length;
  await withMount(variant, async (mounted) => {
    const list = listOf(measuring, mounted);
    figures["lookup cold /s"] = count / (await client(measuring, "lookup", list));
    figures["absent cold /s"] = count / (await client(measuring, "absent", list));
    figures["small files read cold /s"] = count / (await client(measuring, "read", list));
    const before = await mounted.requests();
    figures["small files read warm /s"] = count / (await client(measuring, "read", list));
    figures["stat warm /s"] = count / (await client(measuring, "stat", list));
    const after = await mounted.requests();
    if (before !== undefined && after !== undefined) figures["requests when warm"] = after - before;
  });
  await withMount(variant, async (mounted) => {
    figures["find cold /s"] = 1 / (await shell(`find ${mounted.path}/modules -printf '%s %p\\n' >/dev/null`));
    const before = await mounted.requests();
    figures["find warm /s"] = 1 / (await shell(`find ${mounted.path}/modules -printf '%s %p\\n' >/dev/null`));
    const after = await mounted.requests();
    if (before !== undefined && after !== undefined) figures["requests when warm"] = (figures["requests when warm"] ?? 0) + after - before;
    figures["tar cold /s"] = 1 / (await shell(`tar cf - -C ${mounted.path} small | cat >/dev/null`));
    figures["tar warm /s"] = 1 / (await shell(`tar cf - -C ${mounted.path} small | cat >/dev/null`));
    const large = join(mounted.path, measuring.tree.largeFile);
    const cpu = mounted.cpuSeconds();
    figures["sequential MB/s"] = largeMegabytes / (await client(measuring, "sequential", large));
    figures["server cpu s/GB sequential"] = (mounted.cpuSeconds() - cpu) / (largeMegabytes / 1000);
    figures["sequential warm MB/s"] = largeMegabytes / (await client(measuring, "sequential", large));
    await randomReads(measuring, large, figures);
  });
  return figures;
}

let largeMegabytes = 0;

/** Says how large the large file is. */
export function setLargeBytes(bytes: number): void {
  largeMegabytes = bytes / 1e6;
}

async function randomReads(measuring: Measuring, large: string, figures: Figures): Promise<void> {
  for (const [block, name] of [
    [4096, "4k"],
    [131_072, "128k"],
  ] as const) {
    for (const threads of [1, 4]) {
      const blocks = Math.min(measuring.randomBlocks, Math.floor((largeMegabytes * 1e6) / block));
      const seconds = await client(measuring, "random", large, String(block), String(threads), String(blocks), "0");
      figures[`random ${name} x${threads} /s`] = (Math.floor(blocks / threads) * threads) / seconds;
    }
  }
}

/** Figures through an overlay, all caches of the machine dropped before each cold measure. */
export async function measureOverlay(measuring: Measuring, variant: Variant): Promise<Figures> {
  const figures: Figures = {};
  const cold = async (name: string, measure: (mounted: Mounted) => Promise<number>): Promise<void> => {
    await withMount(variant, async (mounted) => {
      measuring.dropCaches?.();
      figures[name] = await measure(mounted);
    });
  };
  await cold("find /s", async ({ path }) => 1 / (await shell(`find ${path}/modules >/dev/null`)));
  await cold("find -printf /s", async ({ path }) => 1 / (await shell(`find ${path}/modules -printf '%s %p\\n' >/dev/null`)));
  await cold("getfattr -R /s", async ({ path }) => 1 / (await shell(`getfattr -R -d -m - ${path}/modules >/dev/null 2>&1 || true`)));
  await withMount(variant, async ({ path }) => {
    measuring.dropCaches?.();
    figures["tar first /s"] = 1 / (await shell(`tar cf - -C ${path} small modules | cat >/dev/null`));
    figures["tar again /s"] = 1 / (await shell(`tar cf - -C ${path} small modules | cat >/dev/null`));
  });
  await withMount(variant, async ({ path }) => {
    const large = join(path, measuring.tree.largeFile);
    measuring.dropCaches?.();
    figures["sequential MB/s"] = largeMegabytes / (await client(measuring, "sequential", large));
    for (const threads of [1, 4]) {
      measuring.dropCaches?.();
      const blocks = Math.min(measuring.randomBlocks, Math.floor((largeMegabytes * 1e6) / 4096));
      figures[`random 4k x${threads} /s`] =
        blocks / (await client(measuring, "random", large, "4096", String(threads), String(blocks), "0"));
    }
  });
  return figures;
}

/** Reading a large file again, page cache warm: what passthrough is for. */
export async function measureAgain(measuring: Measuring, variant: Variant): Promise<Figures> {
  const figures: Figures = {};
  await withMount(variant, async (mounted) => {
    const large = join(mounted.path, measuring.tree.largeFile);
    await client(measuring, "sequential", large);
    const before = await mounted.requests();
    figures["sequential again MB/s"] = largeMegabytes / (await client(measuring, "sequential", large));
    const blocks = Math.floor((largeMegabytes * 1e6) / 4096);
    figures["random 4k again /s"] = blocks / (await client(measuring, "random", large, "4096", "1", String(blocks), "1"));
    const after = await mounted.requests();
    if (before !== undefined && after !== undefined) figures["requests"] = after - before;
  });
  return figures;
}

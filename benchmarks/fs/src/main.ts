import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { largeFileVariant } from "./large-file.ts";
import { type Figures, type Measuring, measureAgain, measureAlone, measureOverlay, setLargeBytes } from "./measures.ts";
import { describeMachine, medians, printTable } from "./report.ts";
import { measureScale } from "./scale.ts";
import { makeTree, type TreeSize } from "./tree.ts";
import { compile, driverVariant, nativeVariant, overlayVariant, peerVariant, type Variant } from "./variants.ts";

const tiny = process.argv.includes("--tiny");
const only = process.argv.find((argument) => argument.startsWith("--only="))?.slice("--only=".length);
const rounds = Number(process.argv.find((argument) => argument.startsWith("--rounds="))?.slice("--rounds=".length) ?? (tiny ? 1 : 5));
const size: TreeSize = tiny
  ? { largeBytes: 16 << 20, smallFiles: 300, packages: 10 }
  : { largeBytes: 192 << 20, smallFiles: 20_000, packages: 900 };

const folder = mkdtempSync(join(tmpdir(), "ezb-"));

/** Variants that take many times as long as the others: measured in the first and the last of five rounds. */
const slow = new Set(["fuse-native"]);

/** Runs all variants in each round, in a new order, so that no one of them has the better moment. */
async function compare(variants: readonly Variant[], measure: (variant: Variant) => Promise<Figures>): Promise<Map<string, Figures>> {
  const all = new Map<string, Figures[]>(variants.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round += 1) {
    const order = variants.map((_, i) => variants[(i + round) % variants.length]);
    for (const variant of round % 2 === 0 ? order : order.toReversed()) {
      if (variant === undefined || (slow.has(variant.name) && round % 4 !== 0)) continue;
      const begun = Date.now();
      all.get(variant.name)?.push(await measure(variant));
      console.error(`round ${round + 1}, ${variant.name}: ${((Date.now() - begun) / 1000).toFixed(1)} s`);
    }
  }
  return new Map([...all].map(([name, figures]) => [name, medians(figures)]));
}

async function main(): Promise<void> {
  const { server, client } = compile(folder);
  const tree = makeTree(folder, size);
  setLargeBytes(size.largeBytes);
  const dropCaches = tiny ? undefined : () => writeFileSync("/proc/sys/vm/drop_caches", "3");
  const measuring: Measuring = { tree, client, folder, randomBlocks: tiny ? 500 : 10_000, dropCaches };
  const results: Record<string, unknown> = { machine: describeMachine(), size, rounds };
  const wants = (name: string): boolean => only === undefined || only === name;

  const devFuse = driverVariant(folder, tree, "dev-fuse");
  const native = nativeVariant(tree);
  if (wants("alone")) {
    const variants = [devFuse, peerVariant(folder, tree, server), driverVariant(folder, tree, "fuse-native"), native];
    const figures = await compare(variants, (variant) => measureAlone(measuring, variant));
    printTable("By itself: fresh mount, data in the page cache of the disk", figures, "dev-fuse");
    results["alone"] = Object.fromEntries(figures);
  }
  if (wants("overlay")) {
    const variants = [overlayVariant(folder, devFuse), overlayVariant(folder, native)];
    const figures = await compare(variants, (variant) => measureOverlay(measuring, variant));
    printTable("Through overlayfs, all caches dropped", figures, "overlay on dev-fuse");
    results["overlay"] = Object.fromEntries(figures);
  }
  if (wants("again")) {
    const figures = await compare([largeFileVariant(folder, tree, size.largeBytes), devFuse, native], (variant) =>
      measureAgain(measuring, variant),
    );
    printTable("A large file read again", figures, "passthrough");
    results["again"] = Object.fromEntries(figures);
  }
  if (wants("scale")) {
    const figures = await measureScale(folder, tiny);
    printTable("Scale", new Map([["dev-fuse", figures]]), "dev-fuse");
    results["scale"] = figures;
  }
  const target = fileURLToPath(new URL("../results", import.meta.url));
  mkdirSync(target, { recursive: true });
  if (!tiny && only === undefined)
    writeFileSync(join(target, `${new Date().toISOString().slice(0, 10)}.json`), `${JSON.stringify(results, undefined, 2)}\n`);
}

try {
  await main();
} finally {
  execFileSync("sh", ["-c", `grep -o '${folder}[^ ]*' /proc/self/mountinfo | sort -r | xargs -r -n1 umount -l || true`]);
  rmSync(folder, { recursive: true, force: true });
}

import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { cpus, release, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { startDockerRegistry } from "@estargz/testing";
import { measureBesideFill, measureBesideStall } from "./beside.ts";
import { median } from "./commands.ts";
import { buildLayer, tarOfFiles, tarOfOneFile } from "./corpus.ts";
import { fillRound } from "./fill-rate.ts";
import { measureRandom, measureSequential } from "./small-chunks.ts";
import { measureTree } from "./whole-tree.ts";

const tiny = process.argv.includes("--tiny");
const only = process.argv
  .find((argument) => argument.startsWith("--only="))
  ?.slice(7)
  .split(",");
const wants = (name: string): boolean => only === undefined || only.includes(name);
const MiB = 1024 * 1024;
const rounds = tiny ? 1 : 3;
const repository = fileURLToPath(new URL("../../../", import.meta.url));
const folder = await mkdtemp(join(tmpdir(), "estargz-fill-"));
const registry = await startDockerRegistry();
const rows: { readonly what: string; readonly value: string; readonly ratio: number; readonly goal: number }[] = [];
const results: Record<string, unknown> = {};
const row = (what: string, value: string, ratio: number, goal: number): void => {
  rows.push({ what, value, ratio, goal });
  process.stdout.write(`${what.padEnd(62)} ${ratio.toFixed(2).padStart(6)}  (goal ${goal.toFixed(2)})  ${value}\n`);
};

try {
  const { address } = registry;
  const trees = [join(repository, "node_modules/.pnpm"), "/usr/share", "/usr/lib/python3"];
  const tree = async (): ReturnType<typeof buildLayer> => {
    await tarOfFiles(join(folder, "tree.tar"), trees, { maxBytes: tiny ? 4 * MiB : 330 * MiB, maxFiles: 8000, maxFileBytes: MiB });
    return buildLayer("tree", join(folder, "tree.tar"), address, 4 * MiB);
  };
  const large = async (): ReturnType<typeof buildLayer> => {
    await tarOfFiles(join(folder, "large.tar"), ["/usr/lib", "/usr/bin", ...trees], { maxBytes: tiny ? 12 * MiB : 400 * MiB });
    return buildLayer("large", join(folder, "large.tar"), address, 4 * MiB);
  };
  if (wants("chunks")) {
    await tarOfOneFile(join(folder, "one.tar"), tiny ? 4 * MiB : 40 * MiB);
    for (const chunkSize of [64 * 1024, 4 * MiB]) {
      const one = await buildLayer(`one-${chunkSize}`, join(folder, "one.tar"), address, chunkSize);
      const result = await measureSequential(one, address, folder, rounds);
      results[`sequential-${chunkSize}`] = result;
      const times = `${result.readSeconds.toFixed(2)} s against ${result.curlSeconds.toFixed(2)} s, ${result.requests} requests`;
      row(`file in ${chunkSize / 1024} KiB chunks, front to end, against curl`, times, result.ratio, 1.3);
      if (chunkSize > 64 * 1024) continue;
      const random = await measureRandom(one, address, folder, tiny ? 20 : 200);
      results["random"] = random;
      row(
        "bytes of random 4 KiB reads, against the touched chunks",
        `${random.requests} requests for ${random.reads} reads`,
        random.ratio,
        1.2,
      );
    }
  }
  if (wants("tree")) {
    const built = await tree();
    const result = await measureTree(built, address, folder, rounds);
    results["tree"] = result;
    const times = `${result.files} files: ${result.lazy.toFixed(2)} s against ${result.pull.toFixed(2)} + ${result.pulledRead.toFixed(2)} s, ${result.requests} requests`;
    row("tar of a tree, nothing local, against pull + overlayfs", times, result.ratio, 0.4);
  }
  if (wants("fill") || wants("beside")) {
    const built = await large();
    if (wants("fill")) {
      const all: Awaited<ReturnType<typeof fillRound>>[] = [];
      for (let round = 0; round < rounds; round++) all.push(await fillRound(built, address, folder));
      const part = (name: "curl" | "inflate" | "write" | "fill" | "fillZlib" | "processor"): number => median(all.map((one) => one[name]));
      const floor = Math.max(part("curl"), part("inflate"), part("write"));
      results["fill"] = { rounds: all, bytes: built.descriptor.size, uncompressedBytes: built.uncompressedBytes };
      const parts = `${part("fill").toFixed(2)} s; curl ${part("curl").toFixed(2)}, inflate+sha256 ${part("inflate").toFixed(2)}, write ${part("write").toFixed(2)}; ${part("processor").toFixed(2)} s of ${cpus().length} processors; ${all[0]?.requests} requests`;
      row(
        `fill of ${(built.descriptor.size / MiB).toFixed(0)} MiB (${(built.uncompressedBytes / MiB).toFixed(0)} MiB of files), against the floor`,
        parts,
        part("fill") / floor,
        1.2,
      );
      row("the same with zlib, as in the floor", `${part("fillZlib").toFixed(2)} s`, part("fillZlib") / floor, 1.2);
    }
    if (wants("beside")) {
      const small = await tree();
      const reads = tiny ? 120 : 1000;
      const beside = await measureBesideFill(small, built, address, folder, reads);
      results["besideFill"] = beside;
      row(
        "p99 of local reads beside a fill, against alone",
        `${beside.beside.p99.toFixed(0)} µs against ${beside.idle.p99.toFixed(0)} µs`,
        beside.ratio,
        2,
      );
      row(
        "a miss beside a fill, against the fill",
        `${beside.missSeconds.toFixed(3)} s against ${beside.fillSeconds.toFixed(2)} s`,
        beside.overtakes,
        0.5,
      );
      const stall = await measureBesideStall(small, built, address, folder, reads);
      results["besideStall"] = stall;
      row(
        "p99 of local reads beside 64 that wait, against alone",
        `${stall.beside.p99.toFixed(0)} µs against ${stall.idle.p99.toFixed(0)} µs`,
        stall.ratio,
        2,
      );
    }
  }
  if (!tiny && only === undefined) {
    const target = new URL("../results/", import.meta.url);
    await mkdir(target, { recursive: true });
    const machine = { cpus: cpus().length, model: cpus()[0]?.model, kernel: release(), node: process.version };
    const date = new Date().toISOString().slice(0, 10);
    await writeFile(new URL(`${date}.json`, target), `${JSON.stringify({ date, machine, rows, results }, null, 2)}\n`);
  }
} finally {
  await registry.close();
  await rm(folder, { recursive: true, force: true });
}

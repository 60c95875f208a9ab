// The demo itself; main.ts starts it. See ../README.md.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type DockerRegistry, measureLink, type Shaper, startDockerRegistry, startShaper } from "@estargz/testing";
import { compareTrees } from "./compare-trees.ts";
import { type BuiltImage, buildImage } from "./image/build-image.ts";
import { nodeService, smallService } from "./image/node-service.ts";
import { Interrupted, listenForInterruption, unlessInterrupted } from "./interruption.ts";
import { resultTable, type StartMeasurement, summarize, type WayResult } from "./measurement.ts";
import { type DemoOptions, parseOptions, usage } from "./options.ts";
import { createProgress, type Progress } from "./progress.ts";
import { type PublishedImage, publishImages } from "./publish-images.ts";
import { createResources, type Resources } from "./resources.ts";
import { runProgram } from "./run-program.ts";
import { startUnderContainerd } from "./start-under-containerd.ts";
import { startWithoutContainerd } from "./start-without-containerd.ts";
import type { StartedImage, StartOptions } from "./started-image.ts";

interface Bench {
  readonly options: DemoOptions;
  readonly folder: string;
  readonly progress: Progress;
  readonly resources: Resources;
  readonly signal: AbortSignal;
}

async function build(bench: Bench): Promise<BuiltImage> {
  const { options, folder, progress, signal } = bench;
  const { layers, command } = options.small ? smallService() : nodeService();
  progress.step("building the image from what is on this machine");
  const image = await buildImage(join(folder, "image"), layers, command, { signal, onLayer: (layer) => progress.detail(layer.name) });
  const size = image.layers.reduce((sum, layer) => sum + layer.size, 0);
  const plain = image.layers.reduce((sum, layer) => sum + layer.uncompressedSize, 0);
  progress.done(
    `${image.layers.length} layers, ${image.files} files, ${(plain / 1e6).toFixed(0)} MB, ${(size / 1e6).toFixed(1)} MB compressed`,
  );
  return image;
}

async function openLink(bench: Bench, registry: DockerRegistry, blobPath: string): Promise<Shaper> {
  const { options, progress, resources, signal } = bench;
  progress.step("measuring the link to the registry");
  const shape = { target: registry.address, roundTripMs: options.roundTripMs, bitsPerSecond: options.megabitsPerSecond * 1e6 };
  const link = await resources.make(
    "the link",
    () => startShaper(shape),
    (made) => made.close(),
  );
  const measured = await unlessInterrupted(signal, measureLink(link.address, { downloadPath: blobPath }));
  const rate = measured.bitsPerSecond === undefined ? "" : `, ${(measured.bitsPerSecond / 1e6).toFixed(0)} Mbit/s`;
  progress.done(`${measured.roundTripMs.toFixed(1)} ms round trip${rate}`);
  return link;
}

type Begin = Pick<StartOptions, "link" | "image" | "lazy">;

/** Starts one image where nothing of it is local yet, lets `use` look at it, and takes everything away again. */
async function startOnce<T>(bench: Bench, what: Begin, use: (started: StartedImage) => Promise<T>): Promise<T> {
  const resources = createResources();
  bench.resources.add("a start", () => resources.release());
  const begin = bench.options.withoutContainerd ? startWithoutContainerd : startUnderContainerd;
  try {
    return await use(await begin({ ...what, folder: bench.folder, resources, signal: bench.signal }));
  } finally {
    const failures = await resources.release();
    if (failures.length > 0) bench.progress.say(`could not be taken away: ${failures.join("; ")}`);
  }
}

async function measure(bench: Bench, link: Shaper, images: readonly PublishedImage[]): Promise<WayResult[]> {
  const { options, progress } = bench;
  const starts = new Map<string, StartMeasurement[]>(images.map(({ name }) => [name, []]));
  // Interleaved, so that whatever else the machine does falls on every way alike.
  for (let round = 1; round <= options.rounds; round++) {
    for (const { name, path, lazy } of images) {
      progress.step(`round ${round} of ${options.rounds}, ${name}`);
      const { measurement, firstLine } = await startOnce(bench, { link, image: path, lazy }, (started) => Promise.resolve(started));
      starts.get(name)?.push(measurement);
      progress.done(`${measurement.seconds.toFixed(2)} s until "${firstLine}"`);
    }
  }
  return images.map(({ name, compressedBytes }) => summarize(name, compressedBytes, starts.get(name) ?? []));
}

/** Compares what the containers see, file by file; gives the differences. */
async function compare(bench: Bench, link: Shaper, images: readonly PublishedImage[]): Promise<number> {
  const [full, ...others] = images;
  if (full === undefined) return 0;
  let differences = 0;
  await startOnce(bench, { link, image: full.path, lazy: full.lazy }, async (reference) => {
    const referenceTree = await reference.mountTree();
    for (const { name, path, lazy } of others) {
      bench.progress.step(`comparing the whole trees: ${full.name} and ${name}`);
      const result = await startOnce(bench, { link, image: path, lazy }, async (started) =>
        unlessInterrupted(bench.signal, compareTrees(referenceTree, await started.mountTree(), bench.signal)),
      );
      differences += result.differences.length;
      const equal = result.differences.length === 0 ? "equal" : `${result.differences.length} DIFFERENCES`;
      const counts = `${result.names} names, ${(result.bytes / 1e6).toFixed(0)} MB, ${result.hardLinks} hard links, ${result.xattrs} files with xattrs`;
      bench.progress.done(`${counts}: ${equal}`);
      for (const difference of result.differences.slice(0, 20)) bench.progress.say(`  ${difference}`);
    }
  });
  return differences;
}

async function run(bench: Bench): Promise<number> {
  const { options, progress, resources, signal } = bench;
  const image = await build(bench);
  const registry = await resources.make(
    "the registry",
    () => startDockerRegistry({ directory: undefined }),
    (made) => made.close(),
  );
  signal.throwIfAborted();
  const published = await publishImages({ image, registry: registry.address, options, progress, resources, signal });
  const largest = image.layers.reduce((best, layer) => (layer.size > best.size ? layer : best));
  const link = await openLink(bench, registry, `/v2/${published[0]?.repository ?? ""}/blobs/${largest.digest}`);
  const ways = await measure(bench, link, published);
  const differences = await compare(bench, link, published);
  const how = options.withoutContainerd ? "runc without containerd" : "containerd";
  const chunks = `chunks of ${options.chunkSizeBytes / 1024} KiB`;
  progress.say(
    `\nFirst line of a container under ${how}; medians of ${options.rounds}; link of ${options.roundTripMs} ms and ${options.megabitsPerSecond} Mbit/s; ${chunks}\n`,
  );
  process.stdout.write(`${resultTable(ways)}\n`);
  if (options.jsonFile !== undefined) {
    const report = { date: new Date().toISOString(), node: process.version, how, options, treesEqual: differences === 0, ways };
    await writeFile(options.jsonFile, `${JSON.stringify(report, null, 2)}\n`);
  }
  return differences === 0 ? 0 : 1;
}

async function main(): Promise<number> {
  const options = parseOptions(process.argv.slice(2));
  if (options.help) {
    process.stdout.write(usage);
    return 0;
  }
  const progress = createProgress(process.stderr);
  const signal = listenForInterruption((text) => progress.say(text));
  const resources = createResources();
  try {
    const folder = await resources.make(
      "the demo's folder",
      () => mkdtemp(join(tmpdir(), "estargz-demo-")),
      (path) => rm(path, { recursive: true, force: true, maxRetries: 5 }),
    );
    const containerd = options.withoutContainerd || !(await canRunContainerd(progress));
    return await run({ options: { ...options, withoutContainerd: containerd }, folder, progress, resources, signal });
  } catch (error) {
    // What fails after an interruption fails because of it: programs end, connections break.
    throw signal.aborted ? signal.reason : error;
  } finally {
    const failures = await resources.release();
    for (const failure of failures) progress.say(`could not be taken away: ${failure}`);
  }
}

/** Says whether containerd can be used here, and why not. */
async function canRunContainerd(progress: Progress): Promise<boolean> {
  if (process.getuid?.() !== 0) throw new Error("the demo mounts file systems and starts containers: run it as root");
  for (const command of ["containerd", "ctr-remote"]) {
    const found = await runProgram(command, ["--version"]).then(
      () => true,
      () => false,
    );
    if (found) continue;
    progress.say(`${command} is not installed: the image is started through runc alone`);
    return false;
  }
  return true;
}

try {
  process.exitCode = await main();
} catch (error) {
  process.exitCode = error instanceof Interrupted ? error.exitCode : 1;
  if (!(error instanceof Interrupted)) process.stderr.write(`demo: ${error instanceof Error ? error.message : String(error)}\n`);
}
// The parent's channel would keep this process alive; its end is no interruption any more.
process.removeAllListeners("disconnect");
process.disconnect?.();

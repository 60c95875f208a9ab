// Wall time from the first Prepare of an image to the last ALREADY_EXISTS, over gRPC, in round trips of the link.
import { mkdirSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { cpus, release, tmpdir } from "node:os";
import { join } from "node:path";
import type { Descriptor } from "@estargz/interface";
import { isEstargzError } from "@estargz/interface";
import { connectSnapshotter, parseConfig, startSnapshotter } from "@estargz/snapshotter";
import { measureLink, startDockerRegistry, startShaper } from "@estargz/testing";
import { pushLayers } from "./image.ts";

const tiny = process.argv.includes("--tiny");
const LAYERS = 10;
const ROUND_TRIP_MS = 20;
const ROUNDS = tiny ? 3 : 15;
const FILES = tiny ? 20 : 200;

interface Round {
  readonly totalMs: number;
  readonly firstMs: number;
  /** Processor time of daemon and client, all threads. */
  readonly cpuMs: number;
  readonly requests: number;
  readonly bytes: number;
}

function labelsOf(reference: string, layers: readonly Descriptor[], index: number): Record<string, string> {
  const layer = layers[index];
  return {
    "containerd.io/snapshot.ref": `${reference}-chain-${index}`,
    "containerd.io/snapshot/cri.image-ref": reference,
    "containerd.io/snapshot/cri.layer-digest": layer?.digest ?? "",
    "containerd.io/snapshot/cri.image-layers": layers
      .slice(index)
      .map((each) => each.digest)
      .join(","),
    ...layer?.annotations,
  };
}

interface Image {
  readonly reference: string;
  readonly layers: readonly Descriptor[];
}

/** What containerd does after it has the manifest: one Prepare after the other. */
async function prepareAll(address: string, { reference, layers }: Image): Promise<{ totalMs: number; firstMs: number }> {
  const client = connectSnapshotter({ address });
  try {
    await client.walk();
    const started = performance.now();
    let firstMs = 0;
    for (const index of layers.keys()) {
      const parent = index === 0 ? "" : `${reference}-chain-${index - 1}`;
      try {
        await client.prepare({ key: `${reference}-key-${index}`, parent, labels: labelsOf(reference, layers, index) });
        throw new Error(`layer ${index} was not shown lazily`);
      } catch (error) {
        if (!isEstargzError(error, "ALREADY_EXISTS")) throw error;
      }
      if (index === 0) firstMs = performance.now() - started;
    }
    return { totalMs: performance.now() - started, firstMs };
  } finally {
    await client.close();
  }
}

const CONFIG =
  'docker_keychain.enable_keychain = false\nresolver.config_path = ""\nfill.background = "off"\nsnapshotter.unmount_on_exit = true\nfuse.keeper = false\n';

async function round(warmUp: Image, image: Image, statistics: () => Promise<{ requests: number; bytesDown: number }>): Promise<Round> {
  const folder = await mkdtemp(join(tmpdir(), "estargz-prepare-"));
  const address = join(folder, "sn.sock");
  const daemon = await startSnapshotter({ address, root: join(folder, "root"), config: parseConfig(CONFIG) });
  try {
    // The daemon's threads are up, no connection over the link is.
    await prepareAll(address, warmUp);
    const before = await statistics();
    const cpu = process.cpuUsage();
    const times = await prepareAll(address, image);
    const used = process.cpuUsage(cpu);
    const after = await statistics();
    return {
      ...times,
      cpuMs: (used.user + used.system) / 1000,
      requests: after.requests - before.requests,
      bytes: after.bytesDown - before.bytesDown,
    };
  } finally {
    await daemon.close({ unmount: true });
    await rm(folder, { recursive: true, force: true });
  }
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((left, right) => left - right);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

const registry = await startDockerRegistry();
const shaper = await startShaper({ target: registry.address, roundTripMs: ROUND_TRIP_MS, bitsPerSecond: 200e6 });
try {
  const layers = await pushLayers(`${registry.address}/prepare:1`, LAYERS, FILES);
  const link = await measureLink(shaper.address);
  const image: Image = { reference: `${shaper.address}/prepare:1`, layers };
  const warmUp: Image = { reference: `${registry.address}/warm:1`, layers: await pushLayers(`${registry.address}/warm:1`, 1, 3) };
  const rounds: Round[] = [];
  for (let index = 0; index < ROUNDS; index += 1) rounds.push(await round(warmUp, image, () => shaper.statistics()));
  const totalMs = median(rounds.map((each) => each.totalMs));
  const result = {
    date: new Date().toISOString().slice(0, 10),
    machine: { processors: cpus().length, kernel: release(), node: process.version },
    layers: LAYERS,
    rounds: ROUNDS,
    roundTripMs: link.roundTripMs,
    firstMs: median(rounds.map((each) => each.firstMs)),
    totalMs,
    cpuMs: median(rounds.map((each) => each.cpuMs)),
    roundTrips: totalMs / link.roundTripMs,
    requests: median(rounds.map((each) => each.requests)),
    bytes: median(rounds.map((each) => each.bytes)),
  };
  console.table({
    "round trip, measured (ms)": result.roundTripMs.toFixed(1),
    "first layer (ms)": result.firstMs.toFixed(1),
    [`all ${LAYERS} layers (ms)`]: result.totalMs.toFixed(1),
    "processor time, all threads (ms)": result.cpuMs.toFixed(1),
    "all layers, in round trips": result.roundTrips.toFixed(2),
    requests: result.requests,
    bytes: result.bytes,
  });
  if (!tiny) {
    const folder = join(import.meta.dirname, "..", "results");
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, `${result.date}.json`), `${JSON.stringify(result, undefined, 2)}\n`);
  }
} finally {
  await shaper.close();
  await registry.close();
}

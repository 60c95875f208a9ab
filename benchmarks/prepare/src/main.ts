// Wall time from the first Prepare of an image to the last ALREADY_EXISTS, over gRPC, in round trips of the link.
import { mkdirSync, writeFileSync } from "node:fs";
import { cpus, release } from "node:os";
import { join } from "node:path";
import type { Descriptor } from "@estargz/interface";
import { isEstargzError } from "@estargz/interface";
import { connectSnapshotter } from "@estargz/snapshotter";
import { measureLink, startDockerRegistry, startShaper } from "@estargz/testing";
import { startDaemon } from "./daemon.ts";
import { readTails } from "./floor.ts";
import { pushLayers } from "./image.ts";

const tiny = process.argv.includes("--tiny");
const LAYERS = 10;
const ROUND_TRIP_MS = 20;
const ROUNDS = tiny ? 2 : 15;
const FILES = tiny ? 20 : 200;

interface Round {
  readonly totalMs: number;
  readonly firstMs: number;
  readonly linkMs: number;
  readonly floorMs: number;
  readonly requests: number;
  readonly bytes: number;
}

function labelsOf(reference: string, layers: readonly Descriptor[], index: number): Record<string, string> {
  const layer = layers[index];
  return {
    "containerd.io/snapshot.ref": `${reference} chain ${index}`,
    "containerd.io/snapshot/cri.image-ref": reference,
    "containerd.io/snapshot/cri.layer-digest": layer?.digest ?? "",
    "containerd.io/snapshot/cri.image-layers": layers
      .slice(index)
      .map((each) => each.digest)
      .join(","),
    ...layer?.annotations,
  };
}

/** What containerd does after it has the manifest: one Prepare after the other. */
async function prepareAll(
  address: string,
  reference: string,
  layers: readonly Descriptor[],
): Promise<{ totalMs: number; firstMs: number }> {
  const client = connectSnapshotter({ address });
  try {
    await client.walk(["name==none"]);
    const started = performance.now();
    let firstMs = 0;
    for (const index of layers.keys()) {
      const parent = index === 0 ? "" : `${reference} chain ${index - 1}`;
      try {
        await client.prepare({ key: `${reference} key ${index}`, parent, labels: labelsOf(reference, layers, index) });
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

/** A new image over a new link, so that the daemon has no connection to it yet. */
async function round(registry: string, daemon: string, number: number): Promise<Round> {
  const layers = await pushLayers(`${registry}/prepare:${number}`, LAYERS, FILES, number);
  const link = { target: registry, roundTripMs: ROUND_TRIP_MS, bitsPerSecond: 200e6 };
  const shaper = await startShaper(link);
  const other = await startShaper(link);
  try {
    const { roundTripMs: linkMs } = await measureLink(shaper.address);
    const floorMs = await readTails(other.address, "prepare", layers);
    const before = await shaper.statistics();
    const times = await prepareAll(daemon, `${shaper.address}/prepare:${number}`, layers);
    const after = await shaper.statistics();
    return { ...times, linkMs, floorMs, requests: after.requests - before.requests, bytes: after.bytesDown - before.bytesDown };
  } finally {
    await shaper.close();
    await other.close();
  }
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((left, right) => left - right);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

const registry = await startDockerRegistry();
const daemon = await startDaemon();
try {
  const rounds: Round[] = [];
  for (let number = 0; number <= ROUNDS; number += 1) rounds.push(await round(registry.address, daemon.address, number));
  const [cold, ...warm] = rounds;
  const of = (key: keyof Round): number => median(warm.map((each) => each[key]));
  const result = {
    date: new Date().toISOString().slice(0, 10),
    machine: { processors: cpus().length, kernel: release(), node: process.version },
    layers: LAYERS,
    rounds: ROUNDS,
    linkMs: of("linkMs"),
    floorMs: of("floorMs"),
    ratioToFloor: median(warm.map((each) => each.totalMs / each.floorMs)),
    coldMs: cold?.totalMs ?? 0,
    firstMs: of("firstMs"),
    totalMs: of("totalMs"),
    roundTrips: median(warm.map((each) => each.totalMs / each.linkMs)),
    requests: of("requests"),
    bytes: of("bytes"),
  };
  console.table({
    "round trip, measured (ms)": result.linkMs.toFixed(1),
    "first image of the daemon, all layers (ms)": result.coldMs.toFixed(1),
    "first layer (ms)": result.firstMs.toFixed(1),
    [`all ${LAYERS} layers (ms)`]: result.totalMs.toFixed(1),
    "all layers, in round trips": result.roundTrips.toFixed(2),
    "the same bytes by node:http (ms)": result.floorMs.toFixed(1),
    "ratio to that": result.ratioToFloor.toFixed(2),
    requests: result.requests,
    bytes: result.bytes,
  });
  if (!tiny) {
    const folder = join(import.meta.dirname, "..", "results");
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, `${result.date}.json`), `${JSON.stringify(result, undefined, 2)}\n`);
  }
} finally {
  await daemon.close();
  await registry.close();
}

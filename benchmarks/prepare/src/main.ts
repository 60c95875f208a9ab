// Wall time from the first Prepare of an image to the last ALREADY_EXISTS, over gRPC, in round trips of the link.
import { mkdirSync, writeFileSync } from "node:fs";
import { cpus, release } from "node:os";
import { join } from "node:path";
import type { Descriptor } from "@estargz/interface";
import { createRegistryClient } from "@estargz/registry";
import { measureLink, startDockerRegistry, startShaper } from "@estargz/testing";
import { startDaemon } from "./daemon.ts";
import { readTails } from "./floor.ts";
import { pushLayers } from "./image.ts";
import { encodePrepare, LeanClient } from "./lean-client.ts";
import { startMemoryRegistry } from "./memory-registry.ts";

const tiny = process.argv.includes("--tiny");
const LAYERS = 10;
const ROUND_TRIP_MS = 20;
const ROUNDS = tiny ? 2 : 15;
const REPOSITORY = "prepare";
const FILES = tiny ? 20 : 200;

interface Round {
  readonly totalMs: number;
  readonly firstMs: number;
  readonly linkMs: number;
  readonly floorMs: number;
  readonly requests: number;
  readonly bytes: number;
}

/** Where blobs come from, and how they get there. */
interface Registry {
  readonly address: string;
  push(repository: string, layer: Descriptor, blob: Buffer): Promise<void>;
  close(): Promise<void>;
}

async function memoryRegistry(): Promise<Registry> {
  const registry = await startMemoryRegistry();
  const { address } = registry;
  const push = async (repository: string, { digest }: Descriptor, blob: Buffer): Promise<void> => {
    const body = new Uint8Array(blob);
    const { status } = await fetch(`http://${address}/v2/${repository}/blobs/${digest}`, { method: "PUT", body });
    if (status !== 201) throw new Error(`the registry answered ${status} to a blob`);
  };
  return { address, push, close: () => registry.close() };
}

async function dockerRegistry(): Promise<Registry> {
  const registry = await startDockerRegistry();
  const push = async (repository: string, layer: Descriptor, blob: Buffer): Promise<void> => {
    await using client = createRegistryClient();
    await client.repository(`${registry.address}/${repository}`).pushBlob(layer, blob);
  };
  return { address: registry.address, push, close: () => registry.close() };
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
  const calls = layers.map((_, index) =>
    encodePrepare({
      key: `${reference} key ${index}`,
      parent: index === 0 ? "" : `${reference} chain ${index - 1}`,
      labels: labelsOf(reference, layers, index),
    }),
  );
  using client = new LeanClient(address);
  await client.connected();
  const started = performance.now();
  let firstMs = 0;
  for (const [index, call] of calls.entries()) {
    await client.prepare(call);
    if (index === 0) firstMs = performance.now() - started;
  }
  return { totalMs: performance.now() - started, firstMs };
}

/** A new image over a new link, so that the daemon has no connection to it yet. */
async function round(registry: Registry, daemon: string, number: number): Promise<Round> {
  const layers = await pushLayers((layer, blob) => registry.push(REPOSITORY, layer, blob), LAYERS, FILES, number);
  const link = { target: registry.address, roundTripMs: ROUND_TRIP_MS, bitsPerSecond: 200e6 };
  const shaper = await startShaper(link);
  const other = await startShaper(link);
  try {
    const { roundTripMs: linkMs } = await measureLink(shaper.address);
    const floorMs = await readTails(other.address, REPOSITORY, layers);
    const before = await shaper.statistics();
    const times = await prepareAll(daemon, `${shaper.address}/${REPOSITORY}:${number}`, layers);
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

/** All rounds with one registry and one daemon. */
async function measure(start: () => Promise<Registry>) {
  const registry = await start();
  try {
    const daemon = await startDaemon();
    try {
      const rounds: Round[] = [];
      for (let number = 0; number <= ROUNDS; number += 1) rounds.push(await round(registry, daemon.address, number));
      const [cold, ...warm] = rounds;
      const of = (key: keyof Round): number => median(warm.map((each) => each[key]));
      return {
        linkMs: of("linkMs"),
        floorMs: of("floorMs"),
        ratioToFloor: median(warm.map((each) => each.totalMs / each.floorMs)),
        coldMs: cold?.totalMs ?? 0,
        firstMs: of("firstMs"),
        totalMs: of("totalMs"),
        roundTrips: median(warm.map((each) => each.totalMs / each.linkMs)),
        floorRoundTrips: median(warm.map((each) => each.floorMs / each.linkMs)),
        requests: of("requests"),
        bytes: of("bytes"),
      };
    } finally {
      await daemon.close();
    }
  } finally {
    await registry.close();
  }
}

const wanted = process.argv.find((argument) => argument.startsWith("--only="))?.slice("--only=".length);
const results: Record<string, Awaited<ReturnType<typeof measure>>> = {};
for (const [name, start] of Object.entries({ memory: memoryRegistry, "docker-registry": dockerRegistry })) {
  if (wanted === undefined || wanted === name) results[name] = await measure(start);
}
const rows = Object.entries(results).map(([name, result]) => [
  name,
  {
    "round trip (ms)": result.linkMs.toFixed(1),
    "daemon's first image (ms)": result.coldMs.toFixed(1),
    "first layer (ms)": result.firstMs.toFixed(1),
    [`all ${LAYERS} (ms)`]: result.totalMs.toFixed(1),
    "in round trips": result.roundTrips.toFixed(2),
    "node:http (ms)": result.floorMs.toFixed(1),
    "its round trips": result.floorRoundTrips.toFixed(2),
    ratio: result.ratioToFloor.toFixed(2),
    requests: result.requests,
    bytes: result.bytes,
  },
]);
console.table(Object.fromEntries(rows));
if (!tiny && wanted === undefined) {
  const folder = join(import.meta.dirname, "..", "results");
  mkdirSync(folder, { recursive: true });
  const machine = { processors: cpus().length, kernel: release(), node: process.version };
  const date = new Date().toISOString().slice(0, 10);
  writeFileSync(
    join(folder, `${date}.json`),
    `${JSON.stringify({ date, machine, layers: LAYERS, rounds: ROUNDS, registries: results }, undefined, 2)}\n`,
  );
}

import { open, rm } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { createLayerFileSystem } from "@estargz/fs";
import { asLayerSource, createRegistryClient } from "@estargz/registry";
import { seconds, shell } from "./commands.ts";
import type { BuiltLayer } from "./corpus.ts";
import { nullDriver } from "./null-driver.ts";

/** One round: what the parts of a fill take by themselves, and the fill. In seconds. */
export interface FillRound {
  readonly curl: number;
  readonly inflate: number;
  readonly write: number;
  readonly fill: number;
  /** The fill with zlib, as in {@link FillRound.inflate}, instead of the system's libdeflate. */
  readonly fillZlib: number;
  /** Processor time of the fill in this process; the registry takes more on the same processors. */
  readonly processor: number;
  readonly requests: number;
}

const started = (worker: Worker): Promise<void> => new Promise((resolve) => worker.once("message", () => resolve()));

/** Decompresses and hashes every member, on all processors. */
async function inflateAll(built: BuiltLayer): Promise<number> {
  const members = [...new Map(built.layer.chunks.map((chunk) => [chunk.blobOffset, chunk.length + chunk.innerOffset]))].sort(
    (a, b) => a[0] - b[0],
  );
  const floats = (values: readonly number[]): Float64Array<SharedArrayBuffer> => {
    const shared = new Float64Array(new SharedArrayBuffer(values.length * 8));
    shared.set(values);
    return shared;
  };
  const workerData = {
    file: built.file,
    offsets: floats(members.map(([offset]) => offset)),
    lengths: floats(members.map(([, length]) => length)),
    next: new SharedArrayBuffer(4),
  };
  const url = new URL("./inflate-worker.ts", import.meta.url);
  const workers = Array.from({ length: availableParallelism() }, () => new Worker(url, { workerData }));
  await Promise.all(workers.map(started));
  const done = workers.map(started);
  const took = await seconds(async () => {
    for (const worker of workers) worker.postMessage("go");
    await Promise.all(done);
  });
  await Promise.all(workers.map((worker) => worker.terminate()));
  return took;
}

/** Writes as many bytes as the layer has. */
async function writeAll(file: string, bytes: number): Promise<number> {
  const piece = Buffer.alloc(4 * 1024 * 1024, 7);
  const handle = await open(file, "w");
  const took = await seconds(async () => {
    for (let at = 0; at < bytes; at += piece.length) await handle.write(piece, 0, Math.min(piece.length, bytes - at), at);
  });
  await handle.close();
  await rm(file);
  return took;
}

/** Fills a layer from a registry into a fresh store, without a mount. */
async function fillOnce(
  built: BuiltLayer,
  address: string,
  root: string,
  libdeflate: boolean,
): Promise<{ seconds: number; processor: number; requests: number }> {
  const client = createRegistryClient();
  const system = await createLayerFileSystem({
    root,
    source: asLayerSource(client),
    driver: nullDriver(),
    background: "full",
    decoderNice: 0,
    libdeflate,
  });
  // Threads are up, as in a daemon that runs already.
  await new Promise((resolve) => setTimeout(resolve, 500));
  const before = process.cpuUsage();
  const took = await seconds(async () => {
    await system.attach({ owner: "a", locations: [built.location(address)], tocDigest: built.tocDigest });
    for (;;) {
      const coverage = system.coverage("a");
      if (coverage !== undefined && coverage.localBytes >= coverage.totalBytes) return;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  });
  const { user, system: kernel } = process.cpuUsage(before);
  const { requests } = system.statistics().fill;
  await system.close({ unmount: true });
  await client.close();
  await rm(root, { recursive: true, force: true });
  return { seconds: took, processor: (user + kernel) / 1e6, requests: Object.values(requests).reduce((sum, count) => sum + count, 0) };
}

/** Measures a round: the three parts of the floor and the fill, one after the other. */
export async function fillRound(built: BuiltLayer, address: string, folder: string): Promise<FillRound> {
  const url = `http://${address}/v2/bench/${built.name}/blobs/${built.descriptor.digest}`;
  const curl = await seconds(() => shell(`curl -sS -o /dev/null ${url}`));
  const inflate = await inflateAll(built);
  const write = await writeAll(join(folder, "written"), built.uncompressedBytes);
  const fill = await fillOnce(built, address, join(folder, "fill"), true);
  const zlib = await fillOnce(built, address, join(folder, "fill"), false);
  return { curl, inflate, write, fill: fill.seconds, fillZlib: zlib.seconds, processor: fill.processor, requests: fill.requests };
}

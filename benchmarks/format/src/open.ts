import { Worker } from "node:worker_threads";
import { gunzipSync } from "node:zlib";
import { fromBytes, openLayer, writeLayer } from "@estargz/format";
import { collect, manyEntries } from "./make-layers.ts";
import { type Comparison, inTurns } from "./measure.ts";

/** Opening a layer of many entries against gunzip and JSON.parse of its TOC. */
export async function benchmarkOpen(entries: number, rounds: number): Promise<Comparison[]> {
  const { blob, written } = await collect(writeLayer(manyEntries(entries), { level: 1 }));
  const tocOffset = (await openLayer(fromBytes(blob), { tocDigest: written.tocDigest })).payloadEnd;
  const member = blob.subarray(tocOffset, blob.length - 51);
  const times = await inTurns(rounds, {
    ours: async () => {
      const layer = await openLayer(fromBytes(blob), { tocDigest: written.tocDigest });
      return layer.lookup("usr/lib");
    },
    parse: () => {
      const tar = gunzipSync(member);
      return JSON.parse(tar.toString("utf8", 512, 512 + written.tocBytes.length)) as unknown;
    },
  });
  const ratio = (times["ours"] ?? 0) / (times["parse"] ?? 1);
  const heapMiB = await smallestHeap(blob, written.tocDigest, written.tocBytes.length);
  const heapRatio = (heapMiB * 1_048_576) / written.tocBytes.length;
  const json = `${(written.tocBytes.length / 1_048_576).toFixed(1)} MiB of JSON`;
  return [
    {
      name: `open a layer of ${entries} entries`,
      meaning: "time / gunzip + JSON.parse, less is better",
      ratio,
      goal: "at most 1.5",
      met: ratio <= 1.5,
      oursMs: times["ours"],
      theirsMs: times["parse"],
      note: json,
    },
    {
      name: "heap to open it in",
      meaning: "smallest old generation in which it opens / bytes of JSON, less is better",
      ratio: heapRatio,
      goal: "below 2",
      met: heapRatio < 2,
      note: `${heapMiB} MiB of heap for ${json}`,
    },
  ];
}

/** The smallest heap, in MiB, of a thread in which the layer can be opened. */
async function smallestHeap(blob: Uint8Array, tocDigest: string, jsonBytes: number): Promise<number> {
  let low = 1;
  let high = Math.max(16, Math.ceil((jsonBytes * 6) / 1_048_576));
  while (high - low > Math.max(1, high / 32)) {
    const middle = (low + high) >> 1;
    if (await opensWithin(blob, tocDigest, middle)) high = middle;
    else low = middle;
  }
  return high;
}

function opensWithin(blob: Uint8Array, tocDigest: string, heapMiB: number): Promise<boolean> {
  return new Promise((resolve) => {
    const worker = new Worker(new URL("./open-in-thread.ts", import.meta.url), {
      workerData: { blob, tocDigest },
      resourceLimits: { maxOldGenerationSizeMb: heapMiB, maxYoungGenerationSizeMb: 4 },
      stdout: true,
      stderr: true,
    });
    worker.once("message", () => resolve(true));
    worker.once("error", () => resolve(false));
    worker.once("exit", () => resolve(false));
  });
}

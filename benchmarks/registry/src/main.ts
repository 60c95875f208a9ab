import { mkdir, writeFile } from "node:fs/promises";
import { cpus, release } from "node:os";
import { measureLatency } from "./latency.ts";
import { measureOverRead } from "./over-read.ts";
import { measureThroughput } from "./throughput.ts";

const tiny = process.argv.includes("--tiny");
const throughput = await measureThroughput(tiny ? { blobMiB: 8, ranges: 16, rounds: 1 } : { blobMiB: 128, ranges: 512, rounds: 5 });
const latency = await measureLatency(tiny ? 50 : 3000);
const overRead = await measureOverRead(tiny ? 5 : 100);

console.log("1 MiB ranges of docker-registry on loopback, reader on one CPU, medians of turns");
console.table(
  throughput.map(({ concurrency, curl, undici, estargz, ratioToCurl, ratioToUndici, requests }) => ({
    "in flight": concurrency,
    "of curl": ratioToCurl.toFixed(2),
    "of undici": ratioToUndici.toFixed(2),
    "estargz MB/s": estargz.toFixed(0),
    "curl MB/s": curl.toFixed(0),
    "undici MB/s": undici.toFixed(0),
    "requests (estargz/curl)": `${requests.estargz}/${requests.curl}`,
  })),
);
console.log("4 KiB reads on a warm connection, milliseconds");
console.table([Object.fromEntries(Object.entries(latency).map(([name, value]) => [name, value.toFixed(3)]))]);
console.log("bytes received for bytes asked for");
console.table(
  overRead.map(({ workload, overRead: share, reads, requests, askedBytes, receivedBytes }) => ({
    workload,
    "over-read": `${(share * 100).toFixed(2)} %`,
    reads,
    requests,
    "asked MB": (askedBytes / 1e6).toFixed(1),
    "received MB": (receivedBytes / 1e6).toFixed(1),
  })),
);

if (!tiny) {
  const date = new Date().toISOString().slice(0, 10);
  await mkdir(new URL("../results/", import.meta.url), { recursive: true });
  const result = { date, node: process.version, kernel: release(), cpus: cpus().length, throughput, latency, overRead };
  await writeFile(new URL(`../results/${date}.json`, import.meta.url), `${JSON.stringify(result, null, 2)}\n`);
}

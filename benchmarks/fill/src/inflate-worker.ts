import { hash } from "node:crypto";
import { readFileSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import { defaultCodecs } from "@estargz/format";

/** One of several threads that decompress and hash every member of a blob: a part of the floor. */
const { file, offsets, lengths, next } = workerData as {
  file: string;
  offsets: Float64Array<SharedArrayBuffer>;
  lengths: Float64Array<SharedArrayBuffer>;
  next: SharedArrayBuffer;
};
const blob = readFileSync(file);
const counter = new Int32Array(next);
parentPort?.postMessage("ready");
parentPort?.once("message", () => {
  for (let at = Atomics.add(counter, 0, 1); at < offsets.length; at = Atomics.add(counter, 0, 1)) {
    const start = offsets[at] ?? 0;
    const end = offsets[at + 1] ?? blob.length;
    hash("sha256", defaultCodecs.gzip.decode(blob.subarray(start, end), lengths[at] ?? 0), "buffer");
  }
  parentPort?.postMessage("done");
  parentPort?.close();
});

import { parentPort, workerData } from "node:worker_threads";
import { fromBytes, openLayer } from "@estargz/format";
import type { Digest } from "@estargz/interface";

const { blob, tocDigest } = workerData as { blob: Uint8Array; tocDigest: Digest };
const layer = await openLayer(fromBytes(blob), { tocDigest });
parentPort?.postMessage(layer.lookup("usr/lib")?.path);

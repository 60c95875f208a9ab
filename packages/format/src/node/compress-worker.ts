import { parentPort, workerData } from "node:worker_threads";
import { type Batch, type CompressionSettings, createBatchCompressor } from "../writer/batch.ts";
import { createNodeCompressor, sha256 } from "./compressor.ts";

// A thread of a pool: batches come in, compressed ones go out.
const compress = createBatchCompressor({ sha256, createCompressor: createNodeCompressor }, workerData as CompressionSettings);

parentPort?.on("message", (batch: Batch) => {
  const result = compress?.(batch);
  if (result === undefined) throw new Error("this Node can't compress");
  const bytes = result.bytes.byteLength === result.bytes.buffer.byteLength ? result.bytes : result.bytes.slice();
  parentPort?.postMessage({ ...result, bytes }, [bytes.buffer as ArrayBuffer]);
});

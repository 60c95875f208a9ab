import { readlinkSync } from "node:fs";
import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { nodeStoreFiles } from "../store/store-files.ts";
import { Decoder, type DecoderOrder } from "./decoder.ts";

/** What a decoder thread is started with. */
export interface DecodeWorkerData {
  /** One counter that main raises at each news; threads sleep on it. */
  readonly news: SharedArrayBuffer;
  /** The numbers of the decoders' threads, as the kernel knows them; this one's goes to `slot`. */
  readonly threads: SharedArrayBuffer;
  readonly slot: number;
  /** Whether libdeflate is used where there is one. */
  readonly native: boolean;
}

const { news, threads, slot, native } = workerData as DecodeWorkerData;
const port = parentPort;

if (port !== null) {
  // On Linux a priority belongs to the thread: main sets it by this number.
  try {
    Atomics.store(new Int32Array(threads), slot, Number(readlinkSync("/proc/thread-self").split("/").at(-1)));
  } catch {
    // Then all threads keep the priority of the process.
  }
  const counter = new Int32Array(news);
  const decoder = new Decoder(nodeStoreFiles, (results) => port.postMessage(results), { native });
  while (!decoder.closing) {
    const seen = Atomics.load(counter, 0);
    for (let message = receiveMessageOnPort(port); message !== undefined; message = receiveMessageOnPort(port)) {
      decoder.take(message.message as DecoderOrder);
    }
    if (decoder.step()) continue;
    decoder.flush();
    if (!decoder.closing) Atomics.wait(counter, 0, seen);
  }
  decoder.flush();
  port.close();
}

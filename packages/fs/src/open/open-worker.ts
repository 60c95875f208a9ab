import { parentPort, workerData } from "node:worker_threads";
import { type LayerLimits, openLayer, openLayerFromToc } from "@estargz/format";
import type { Layer, ReaderAt } from "@estargz/interface";
import { packLayer } from "../build-layer-index.ts";
import { type Deferred, deferred } from "../deferred.ts";
import { LayerIndex } from "../layer-index.ts";
import { makeLayerFolder } from "../store/make-layer-folder.ts";
import type { OpenOrder, OpenReply } from "./open-messages.ts";
import { postError, receiveError } from "./posted-error.ts";

interface Answer {
  readonly bytes: Uint8Array;
  readonly size: number | undefined;
}

const port = parentPort;
const limits = workerData as Partial<LayerLimits>;
const reads = new Map<number, Deferred<Answer>>();
let nextRead = 1;

/** The blob as the main thread reads it. */
function remoteReader(id: number, size: number | undefined): ReaderAt {
  const ask = (kind: "range" | "tail" | "toc", offset: number, length: number): Promise<Answer> => {
    const read = nextRead++;
    const answer = deferred<Answer>();
    reads.set(read, answer);
    port?.postMessage({ type: "read", id, read, kind, offset, length } satisfies OpenReply);
    return answer.promise;
  };
  const readAt = async (offset: number, length: number): Promise<Uint8Array> => (await ask("range", offset, length)).bytes;
  return {
    size,
    readAt,
    readTail: async (length) => {
      const { bytes, size: total } = await ask("tail", 0, length);
      return { bytes, size: total ?? bytes.length };
    },
    readRanges: (ranges) => Promise.all(ranges.map((range) => readAt(range.offset, range.length))),
  };
}

async function open(order: OpenOrder & { type: "open" }): Promise<ArrayBuffer> {
  const blob = remoteReader(order.id, order.size);
  const externalToc = async (): Promise<Uint8Array> => {
    const read = nextRead++;
    const answer = deferred<Answer>();
    reads.set(read, answer);
    port?.postMessage({ type: "read", id: order.id, read, kind: "toc", offset: 0, length: 0 } satisfies OpenReply);
    return (await answer.promise).bytes;
  };
  const { tocDigest, annotations, tailBytes } = order;
  const isOpen = tocDigest === undefined;
  let layer: Layer = await openLayer(blob, { tocDigest, annotations, allowUnverified: isOpen, externalToc, limits, tailBytes });
  if (isOpen && !order.allowUnverified && !layer.verified) {
    // Strictly again, against the digest that its TOC has: whoever asked compares that digest.
    const { tocBytes, format, blobSize, payloadEnd } = layer;
    layer = openLayerFromToc({ blob, tocBytes, format, blobSize, payloadEnd, tocDigest: layer.tocDigest, limits });
  }
  // Given away, not shared: this thread would keep it until it happens to collect garbage.
  let buffer = new ArrayBuffer(0);
  packLayer(layer, order.layerDigest, (length) => (buffer = new ArrayBuffer(length)));
  return buffer;
}

port?.on("message", (order: OpenOrder) => {
  if (order.type === "read" || order.type === "read-failed") {
    const answer = reads.get(order.read);
    reads.delete(order.read);
    if (order.type === "read") answer?.resolve(order);
    else answer?.reject(receiveError(order.error));
    return;
  }
  if (order.type === "make") {
    void makeLayerFolder(order.directory, LayerIndex.over(order.index), order.ownFiles).then(
      () => port.postMessage({ type: "made", id: order.id } satisfies OpenReply),
      (error: unknown) => port.postMessage({ type: "failed", id: order.id, error: postError(error) } satisfies OpenReply),
    );
    return;
  }
  void open(order).then(
    (index) => port.postMessage({ type: "opened", id: order.id, index } satisfies OpenReply, [index]),
    (error: unknown) => port.postMessage({ type: "failed", id: order.id, error: postError(error) } satisfies OpenReply),
  );
});

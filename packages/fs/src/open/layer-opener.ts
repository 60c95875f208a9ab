import { Worker } from "node:worker_threads";
import type { LayerLimits } from "@estargz/format";
import { type Digest, EstargzError, isEstargzError, PRIORITY_ON_DEMAND, type ReaderAt, type Tail } from "@estargz/interface";
import { type Deferred, deferred } from "../deferred.ts";
import { LayerIndex } from "../layer-index.ts";
import { LARGE_INDEX_BYTES, type MakeLayerFolder, makeLayerFolder } from "../store/make-layer-folder.ts";
import { workerOptions, workerUrl } from "../worker-url.ts";
import type { OpenOrder, OpenReply } from "./open-messages.ts";
import { postError, receiveError } from "./posted-error.ts";

/** What `openLayer` reads of a blob's end when it does not know the blob's size. */
const FIRST_READ_BYTES = 13 * 1024;

/** What {@link LayerOpener.open} needs to know. */
interface OpenRequest {
  readonly blob: ReaderAt;
  readonly layerDigest: Digest;
  /** Expected digest of the TOC; without it the digest of the index has to be compared. */
  readonly tocDigest: Digest | undefined;
  readonly allowUnverified: boolean;
  readonly annotations: Readonly<Record<string, string>> | undefined;
  /** Gets a TOC that is stored elsewhere. */
  readonly externalToc?: (() => Promise<Uint8Array>) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Opens layers in a thread of its own: a TOC of any size holds nobody up. */
export interface LayerOpener {
  /**
   * Fetches, verifies, parses and packs a layer's TOC.
   *
   * @throws `NOT_ESTARGZ`, `INVALID_TOC`, `DIGEST_MISMATCH`, `UNVERIFIED`, the source's errors, or the signal's reason.
   */
  open(request: OpenRequest): Promise<LayerIndex>;
  /** Makes a layer's folder in that thread, too, and here if the thread ends meanwhile. */
  readonly make: MakeLayerFolder;
  close(): Promise<void>;
}

interface Pending {
  readonly request: OpenRequest;
  readonly result: Deferred<ArrayBuffer>;
  /** The blob's end, asked for while the thread hears of the layer or starts. */
  readonly tail: Promise<Tail> | undefined;
}

/**
 * Starts the thread that opens layers.
 *
 * @param options - `idleMs`: the thread ends, with all the memory that large TOCs took, when nothing was opened for so long. The next
 * layer starts another one. `limits` of what it opens.
 */
export function startLayerOpener(options: { readonly idleMs: number; readonly limits?: Partial<LayerLimits> | undefined }): LayerOpener {
  const pending = new Map<number, Pending>();
  const making = new Map<number, Deferred<void>>();
  let nextId = 1;
  let worker: Worker | undefined;
  let idle: NodeJS.Timeout | undefined;

  const start = (): Worker => {
    const started = new Worker(workerUrl("./open-worker", import.meta.url), {
      ...workerOptions(import.meta.url),
      name: "estargz-opener",
      workerData: options.limits ?? {},
    });
    started.unref();
    started.on("message", (reply: OpenReply) => onReply(started, reply));
    started.on("error", (error) => {
      // A hostile TOC that takes all memory ends the thread, not the process.
      worker = undefined;
      const failure = new EstargzError("LIMIT_EXCEEDED", "opening a layer ended its thread: its TOC is too large or damaged", {
        cause: error,
      });
      for (const [id, { result }] of pending) {
        pending.delete(id);
        result.reject(failure);
      }
      for (const [id, made] of making) {
        making.delete(id);
        made.reject(failure);
      }
    });
    return started;
  };

  const onMade = (made: Deferred<void>, reply: OpenReply): void => {
    making.delete(reply.id);
    if (reply.type === "failed") made.reject(receiveError(reply.error));
    else made.resolve();
  };

  const onReply = (from: Worker, reply: OpenReply): void => {
    const made = making.get(reply.id);
    if (made !== undefined) {
      onMade(made, reply);
      return;
    }
    const open = pending.get(reply.id);
    if (open === undefined) {
      // Nobody waits any more: the thread is told so, and forgets the layer.
      const error = postError(new EstargzError("CLOSED", "the layer is no longer being opened"));
      if (reply.type === "read") from.postMessage({ type: "read-failed", id: reply.id, read: reply.read, error } satisfies OpenOrder);
      return;
    }
    if (reply.type === "read") {
      void serve(open, reply).then((order) => from.postMessage(order));
      return;
    }
    pending.delete(reply.id);
    if (reply.type === "opened") open.result.resolve(reply.index);
    else if (reply.type === "failed") open.result.reject(receiveError(reply.error));
  };

  const restWhenIdle = (): void => {
    clearTimeout(idle);
    if (pending.size + making.size > 0) return;
    idle = setTimeout(() => {
      void worker?.terminate();
      worker = undefined;
    }, options.idleMs);
    idle.unref();
  };

  worker = start();
  restWhenIdle();
  return {
    async open(request) {
      const { signal, blob, layerDigest, tocDigest, allowUnverified, annotations } = request;
      signal?.throwIfAborted();
      clearTimeout(idle);
      worker ??= start();
      const id = nextId++;
      const result = deferred<ArrayBuffer>();
      const abort = (): void => {
        pending.delete(id);
        result.reject(signal?.reason);
      };
      const tail = blob.size === undefined ? blob.readTail(FIRST_READ_BYTES, { signal, priority: PRIORITY_ON_DEMAND }) : undefined;
      // Who waits for the layer sees the error.
      tail?.catch(() => undefined);
      pending.set(id, { request, result, tail });
      signal?.addEventListener("abort", abort, { once: true });
      try {
        worker.postMessage({
          type: "open",
          id,
          size: blob.size,
          tailBytes: tail === undefined ? undefined : FIRST_READ_BYTES,
          layerDigest,
          tocDigest,
          allowUnverified,
          annotations,
        } satisfies OpenOrder);
        return LayerIndex.over(await result.promise);
      } finally {
        signal?.removeEventListener("abort", abort);
        if (worker !== undefined) restWhenIdle();
      }
    },
    async make(directory, index, ownFiles) {
      const { buffer } = index;
      // A large one would be in memory twice.
      if (buffer.byteLength > LARGE_INDEX_BYTES || !(buffer instanceof ArrayBuffer)) return makeLayerFolder(directory, index, ownFiles);
      clearTimeout(idle);
      worker ??= start();
      const id = nextId++;
      const made = deferred<void>();
      making.set(id, made);
      worker.postMessage({ type: "make", id, directory, index: buffer, ownFiles } satisfies OpenOrder);
      try {
        await made.promise;
      } catch (error) {
        if (!isEstargzError(error, "LIMIT_EXCEEDED")) throw error;
        await makeLayerFolder(directory, index, ownFiles);
      } finally {
        if (worker !== undefined) restWhenIdle();
      }
    },
    async close() {
      clearTimeout(idle);
      const ending = worker;
      worker = undefined;
      for (const made of making.values()) made.reject(new EstargzError("CLOSED", "the layer file system was closed"));
      making.clear();
      for (const { result } of pending.values()) result.reject(new EstargzError("CLOSED", "the layer file system was closed"));
      pending.clear();
      await ending?.terminate();
    },
  };
}

async function serve({ request, tail }: Pending, reply: OpenReply & { type: "read" }): Promise<OpenOrder> {
  const { id, read, kind, offset, length } = reply;
  const { blob, signal, externalToc } = request;
  const options = { signal, priority: PRIORITY_ON_DEMAND };
  try {
    if (kind === "tail") return { type: "read", id, read, ...(await (tail ?? blob.readTail(length, options))) };
    if (kind === "range") return { type: "read", id, read, bytes: await blob.readAt(offset, length, options), size: undefined };
    if (externalToc === undefined) {
      throw new EstargzError("NOT_FOUND", "the TOC of this layer is stored elsewhere, and no way to get it was given (externalToc)");
    }
    return { type: "read", id, read, bytes: await externalToc(), size: undefined };
  } catch (error) {
    return { type: "read-failed", id, read, error: postError(error) };
  }
}

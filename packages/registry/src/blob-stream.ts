import { EstargzError, type ReadOptions } from "@estargz/interface";
import type { BlobFetcher } from "./blob-fetcher.ts";
import type { BodyFlow } from "./http/exchange.ts";

/** Bytes that may wait for the consumer before the server is held back. */
const MAX_WAITING_BYTES = 1024 * 1024;

/** Memory that is read into at once. */
const SLAB_BYTES = 128 * 1024;

/** Pieces between the network, which pushes, and a consumer, which pulls. */
class PieceQueue {
  readonly #pieces: Uint8Array[] = [];
  #waitingBytes = 0;
  #ended = false;
  #error: { readonly reason: unknown } | undefined;
  #flow: BodyFlow | undefined;
  #held = false;
  #wake: (() => void) | undefined;

  attach(flow: BodyFlow): void {
    this.#flow = flow;
    this.#held = false;
    if (this.#waitingBytes > MAX_WAITING_BYTES) this.#hold();
  }

  #hold(): void {
    this.#held = true;
    this.#flow?.pause();
  }

  push(piece: Uint8Array): void {
    this.#pieces.push(piece);
    this.#waitingBytes += piece.length;
    if (this.#waitingBytes > MAX_WAITING_BYTES && !this.#held) this.#hold();
    this.#wake?.();
  }

  end(error?: { readonly reason: unknown }): void {
    this.#ended = true;
    this.#error = error;
    this.#wake?.();
  }

  async *drain(): AsyncGenerator<Uint8Array, void, void> {
    for (;;) {
      const piece = this.#pieces.shift();
      if (piece !== undefined) {
        this.#waitingBytes -= piece.length;
        if (this.#held && this.#waitingBytes < MAX_WAITING_BYTES / 2) {
          this.#held = false;
          this.#flow?.resume();
        }
        yield piece;
      } else if (this.#ended) {
        if (this.#error !== undefined) throw this.#error.reason;
        return;
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        this.#wake = undefined;
      }
    }
  }
}

/**
 * Streams a run of a blob by one request; a cut body is resumed. No two pieces share memory, so that they may be transferred.
 * Holds at most about 1 MiB that the consumer has not
 * taken. Ending the iteration early ends the request.
 */
export async function* streamBlob(
  fetcher: BlobFetcher,
  offset: number,
  length: number,
  options: ReadOptions,
  closed: AbortSignal,
): AsyncGenerator<Uint8Array, void, void> {
  if (length === 0) return;
  const { signal, priority } = options;
  signal?.throwIfAborted();
  if (closed.aborted) throw closed.reason;
  const controller = new AbortController();
  const stop = (): void => controller.abort(signal?.aborted === true ? signal.reason : closed.reason);
  signal?.addEventListener("abort", stop, { once: true });
  closed.addEventListener("abort", stop, { once: true });
  const queue = new PieceQueue();
  let got = 0;
  let slab = Buffer.alloc(0);
  const target = (position: number): Uint8Array | undefined => {
    if (position !== offset + got || got === length) return undefined;
    if (slab.length === 0) slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
    return slab;
  };
  const take = (position: number, bytes: Buffer, transient: boolean): void => {
    const next = offset + got;
    if (position > next || position + bytes.length <= next || got === length) return;
    const from = next - position;
    let piece = bytes.subarray(from, Math.min(bytes.length, from + length - got));
    const inSlab = piece.buffer === slab.buffer;
    // A slab that is half full is handed on; of an emptier one only the bytes are, and it is read into again.
    if (inSlab && piece.length >= SLAB_BYTES / 2) slab = Buffer.alloc(0);
    else if (inSlab || transient) {
      const own = Buffer.allocUnsafeSlow(piece.length);
      own.set(piece);
      piece = own;
    }
    got += piece.length;
    queue.push(new Uint8Array(piece.buffer, piece.byteOffset, piece.length));
  };
  const work = fetcher.network.api
    .acrossHosts(fetcher.reference, "pull", { signal: controller.signal, what: fetcher.what, progress: () => got }, async (host) => {
      for (let before = -1; got < length && got > before; ) {
        before = got;
        await fetcher.fetch(host, {
          ranges: [{ offset: offset + got, length: length - got }],
          signal: controller.signal,
          priority,
          bytes: take,
          target,
          flow: (flow) => queue.attach(flow),
        });
      }
      if (got < length)
        throw new EstargzError("SHORT_READ", `${host.url.host} gave ${got} of ${length} bytes from ${offset} of ${fetcher.what}`);
    })
    .then(
      () => queue.end(),
      (reason: unknown) => queue.end({ reason }),
    );
  try {
    yield* queue.drain();
  } finally {
    signal?.removeEventListener("abort", stop);
    closed.removeEventListener("abort", stop);
    controller.abort(new EstargzError("CLOSED", "the stream is not read on"));
    await work;
  }
}

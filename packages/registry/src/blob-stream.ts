import { EstargzError, type StreamReadOptions } from "@estargz/interface";
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
    const last = this.#pieces.at(-1);
    // What arrives at its place in one memory while the consumer is busy becomes one piece.
    if (last !== undefined && last.buffer === piece.buffer && last.byteOffset + last.length === piece.byteOffset)
      this.#pieces[this.#pieces.length - 1] = new Uint8Array(piece.buffer, last.byteOffset, last.length + piece.length);
    else this.#pieces.push(piece);
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

/** Where the bytes of a stream that arrive are put. */
interface Landing {
  /** Memory for the bytes after the first `got`. */
  target(got: number): Uint8Array;
  /** Takes bytes that follow the first `got`, in {@link target} or elsewhere (`transient`: for now); gives them where they stay. */
  keep(bytes: Buffer, got: number, transient: boolean): Uint8Array;
}

/** Puts bytes into the caller's memory, each at its place. */
function landInto(into: Uint8Array): Landing {
  return {
    target: (got) => into.subarray(got, got + SLAB_BYTES),
    keep(bytes, got) {
      const place = into.subarray(got, got + bytes.length);
      if (bytes.buffer !== into.buffer) place.set(bytes);
      return place;
    },
  };
}

/** Gives each piece memory of its own. */
function landApart(): Landing {
  let slab = Buffer.alloc(0);
  return {
    target() {
      if (slab.length === 0) slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
      return slab;
    },
    keep(bytes, _got, transient) {
      const inSlab = bytes.buffer === slab.buffer;
      if (!inSlab && !transient) return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
      // A slab that is half full is handed on; of an emptier one only the bytes are, and it is read into again.
      if (inSlab && bytes.length >= SLAB_BYTES / 2) slab = Buffer.alloc(0);
      else return new Uint8Array(bytes);
      return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
    },
  };
}

/**
 * Streams a run of a blob by one request; a cut body is resumed. Without `into`, no two pieces share memory, so that they
 * may be transferred. Holds at most about 1 MiB that the consumer has not taken. Ending the iteration early ends the request.
 */
export async function* streamBlob(
  fetcher: BlobFetcher,
  offset: number,
  length: number,
  options: StreamReadOptions,
  closed: AbortSignal,
): AsyncGenerator<Uint8Array, void, void> {
  if (length === 0) return;
  const { signal, priority, into } = options;
  if (into !== undefined && into.length < length)
    throw new EstargzError("INVALID_ARGUMENT", `a stream of ${length} bytes does not fit into ${into.length} bytes of memory`);
  signal?.throwIfAborted();
  if (closed.aborted) throw closed.reason;
  const controller = new AbortController();
  const stop = (): void => controller.abort(signal?.aborted === true ? signal.reason : closed.reason);
  signal?.addEventListener("abort", stop, { once: true });
  closed.addEventListener("abort", stop, { once: true });
  const queue = new PieceQueue();
  const landing = into === undefined ? landApart() : landInto(into.subarray(0, length));
  let got = 0;
  const target = (position: number): Uint8Array | undefined =>
    position === offset + got && got < length ? landing.target(got) : undefined;
  const take = (position: number, bytes: Buffer, transient: boolean): void => {
    const next = offset + got;
    if (position > next || position + bytes.length <= next || got === length) return;
    const from = next - position;
    const piece = landing.keep(bytes.subarray(from, Math.min(bytes.length, from + length - got)), got, transient);
    got += piece.length;
    queue.push(piece);
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

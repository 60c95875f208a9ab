import { EstargzError } from "@estargz/interface";

/** Bytes of a source, taken in pieces of the size one wants. Counts what was taken. */
export class ByteQueue {
  #position = 0;
  #current: Uint8Array = new Uint8Array(0);
  #at = 0;
  readonly #source: AsyncIterator<Uint8Array>;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** Bytes taken so far. */
  get position(): number {
    return this.#position;
  }

  /** The next 1 to `max` bytes, as a view; `undefined` at the end. */
  async some(max: number): Promise<Uint8Array | undefined> {
    while (this.#at >= this.#current.length) {
      const next = await this.#source.next();
      if (next.done === true) return undefined;
      this.#current = next.value;
      this.#at = 0;
    }
    return this.#take(max);
  }

  /** Like {@link some}, for bytes that are there already; `undefined` if none is. */
  ready(max: number): Uint8Array | undefined {
    return this.#at < this.#current.length ? this.#take(max) : undefined;
  }

  #take(max: number): Uint8Array {
    const piece = this.#current.subarray(this.#at, this.#at + max);
    this.#at += piece.length;
    this.#position += piece.length;
    return piece;
  }

  /** Exactly `length` bytes; `undefined` if the source had ended before the first. Throws `INVALID_TAR` if it ends in between. */
  async exactly(length: number): Promise<Uint8Array | undefined> {
    const first = await this.some(length);
    if (first === undefined || first.length === length) return first;
    const bytes = new Uint8Array(length);
    bytes.set(first);
    for (let at = first.length; at < length; ) {
      const piece = await this.some(length - at);
      if (piece === undefined) throw new EstargzError("INVALID_TAR", `the tar ends after ${this.#position} bytes, inside of an entry`);
      bytes.set(piece, at);
      at += piece.length;
    }
    return bytes;
  }

  /** Lets go of the source. */
  async close(): Promise<void> {
    await this.#source.return?.();
  }
}

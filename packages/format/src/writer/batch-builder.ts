import type { Batch } from "./batch.ts";

const FIRST_BYTES = 1 << 20;

/** Collects the uncompressed stream and cuts it into members and batches. */
export class BatchBuilder {
  #buffer: Uint8Array<ArrayBuffer> = new Uint8Array(FIRST_BYTES);
  #length = 0;
  #starts: number[] = [0];
  #hashes: number[] = [];
  #member = 0;

  /** Number of the current member in the whole blob. */
  get member(): number {
    return this.#member;
  }

  /** Bytes of the current member so far. */
  get memberBytes(): number {
    return this.#length - (this.#starts.at(-1) as number);
  }

  /** Bytes collected. */
  get length(): number {
    return this.#length;
  }

  append(bytes: Uint8Array): void {
    this.reserve(bytes.length);
    this.#buffer.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  /** Makes room for so many bytes at once. */
  reserve(bytes: number): void {
    const needed = this.#length + bytes;
    if (needed <= this.#buffer.length) return;
    const grown = new Uint8Array(Math.max(needed, this.#buffer.length * 2));
    grown.set(this.#buffer.subarray(0, this.#length));
    this.#buffer = grown;
  }

  /** Starts a new member, unless the current one is empty. */
  cut(): void {
    if (this.memberBytes === 0) return;
    this.#starts.push(this.#length);
    this.#member += 1;
  }

  /** Asks for the digest of the last `length` bytes. */
  hashLast(length: number): void {
    this.#hashes.push(this.#length - length, length);
  }

  /** Gives what was collected; the next member starts in a new batch. `undefined` if there is nothing. */
  take(): Batch | undefined {
    this.cut();
    if (this.#length === 0) return undefined;
    const starts = this.#starts.slice(0, -1);
    const bytes = this.#buffer.subarray(0, this.#length);
    const batch: Batch = { bytes, starts, hashes: this.#hashes };
    this.#buffer = new Uint8Array(Math.max(FIRST_BYTES, Math.min(this.#length + (this.#length >>> 3), 8 << 20)));
    this.#length = 0;
    this.#starts = [0];
    this.#hashes = [];
    return batch;
  }
}

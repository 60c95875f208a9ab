/** One run of bytes on its way, and everybody who waits for parts of it. */
export class BlobFlight {
  readonly offset: number;
  readonly length: number;
  readonly buffer: Buffer;
  readonly #controller = new AbortController();
  readonly #waiters = new Set<Waiter>();
  #filled = 0;
  #error: { readonly reason: unknown } | undefined;
  /** Set when somebody besides the first waiter may see the buffer: then nobody owns it. */
  #shared = false;

  constructor(offset: number, length: number) {
    this.offset = offset;
    this.length = length;
    this.buffer = Buffer.allocUnsafeSlow(length);
  }

  /** Aborted when the last waiter has left. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Bytes that are there, from the start on. */
  get filled(): number {
    return this.#filled;
  }

  get complete(): boolean {
    return this.#filled === this.length;
  }

  get failed(): boolean {
    return this.#error !== undefined;
  }

  get end(): number {
    return this.offset + this.length;
  }

  /** The place of the bytes from `position` on, if those are the next ones wanted. */
  target(position: number): Uint8Array | undefined {
    return position === this.offset + this.#filled && !this.complete && this.#error === undefined
      ? this.buffer.subarray(this.#filled)
      : undefined;
  }

  /** Takes bytes of the blob if they are the next ones wanted; others are ignored. */
  offer(position: number, bytes: Uint8Array): void {
    const next = this.offset + this.#filled;
    if (position > next || position + bytes.length <= next || this.complete || this.#error !== undefined) return;
    const from = next - position;
    const take = Math.min(bytes.length - from, this.length - this.#filled);
    // Bytes that were read straight into their place are there already.
    const inPlace = from === 0 && bytes.buffer === this.buffer.buffer && bytes.byteOffset === this.buffer.byteOffset + this.#filled;
    if (!inPlace) this.buffer.set(from === 0 && take === bytes.length ? bytes : bytes.subarray(from, from + take), this.#filled);
    this.#filled += take;
    this.#serve();
  }

  /** Ends every wait with an error, and the transfer. */
  cancel(reason: unknown): void {
    this.fail(reason);
    this.#controller.abort(reason);
  }

  /** Ends every wait with an error. */
  fail(reason: unknown): void {
    if (this.#error !== undefined || this.complete) return;
    this.#error = { reason };
    for (const waiter of this.#waiters) waiter.reject(reason);
    this.#waiters.clear();
  }

  /**
   * Waits for `length` bytes from `offset`, which lie in this run. The bytes belong to the caller.
   * Aborting `signal` ends this wait only.
   */
  wait(offset: number, length: number, signal: AbortSignal | undefined): Promise<Uint8Array> {
    const from = offset - this.offset;
    const whole = from === 0 && length === this.length && this.#waiters.size === 0 && !this.#shared && !this.complete;
    this.#shared = true;
    if (this.#error !== undefined) return Promise.reject(this.#error.reason);
    if (this.#filled >= from + length) return Promise.resolve(new Uint8Array(this.buffer.subarray(from, from + length)));
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        this.#waiters.delete(waiter);
        reject(signal?.reason);
        if (this.#waiters.size === 0 && !this.complete) {
          this.#error = { reason: signal?.reason };
          this.#controller.abort(signal?.reason);
        }
      };
      const waiter: Waiter = {
        from,
        length,
        owner: whole,
        resolve: (bytes) => {
          signal?.removeEventListener("abort", leave);
          resolve(bytes);
        },
        reject: (reason) => {
          signal?.removeEventListener("abort", leave);
          reject(reason);
        },
      };
      if (signal?.aborted === true) {
        reject(signal.reason);
        return;
      }
      signal?.addEventListener("abort", leave, { once: true });
      this.#waiters.add(waiter);
    });
  }

  /** Serves those whose bytes are there. Copies are made before the owner of the buffer gets it. */
  #serve(): void {
    let owner: Waiter | undefined;
    for (const waiter of this.#waiters) {
      if (this.#filled < waiter.from + waiter.length) continue;
      this.#waiters.delete(waiter);
      if (waiter.owner) owner = waiter;
      else waiter.resolve(new Uint8Array(this.buffer.subarray(waiter.from, waiter.from + waiter.length)));
    }
    owner?.resolve(new Uint8Array(this.buffer.buffer, this.buffer.byteOffset, this.length));
  }
}

interface Waiter {
  readonly from: number;
  readonly length: number;
  /** The one that gets the buffer itself. */
  readonly owner: boolean;
  readonly resolve: (bytes: Uint8Array) => void;
  readonly reject: (reason: unknown) => void;
}

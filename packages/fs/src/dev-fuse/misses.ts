import type { DriverLayer } from "../driver.ts";
import { errnoOf } from "../errno.ts";
import type { MissRequest } from "./request-handler.ts";

/** Times that a request is given back because its bytes, fetched, were gone again. */
const MAX_ATTEMPTS = 4;
const EIO = 5;
/** Interrupts that are remembered for requests that have not come yet. */
const MAX_EARLY_INTERRUPTS = 256;

/** How a miss ends. */
export interface MissReplies {
  /** The bytes are in the store: a worker can answer now. */
  retry(key: string, request: MissRequest): void;
  /** Answers with bytes. */
  data(key: string, request: MissRequest, bytes: Uint8Array): void;
  error(key: string, request: MissRequest, errno: number): void;
}

/** Reads of bytes that are not local: fetched by the layer, in any order, and given up when their caller is interrupted. */
export class Misses {
  readonly #replies: MissReplies;
  readonly #pending = new Map<string, { readonly controller: AbortController; readonly done: Promise<void> }>();
  readonly #interrupted = new Set<string>();

  constructor(replies: MissReplies) {
    this.#replies = replies;
  }

  /** Number of reads in hand. */
  get size(): number {
    return this.#pending.size;
  }

  /** Takes a read in hand. */
  take(key: string, request: MissRequest, layer: DriverLayer | undefined): void {
    const name = nameOf(key, request.uniqueLow, request.uniqueHigh);
    const controller = new AbortController();
    if (this.#interrupted.delete(name)) controller.abort(interrupted());
    const done = this.#fetch(key, request, layer, controller.signal).finally(() => this.#pending.delete(name));
    this.#pending.set(name, { controller, done });
  }

  async #fetch(key: string, request: MissRequest, layer: DriverLayer | undefined, signal: AbortSignal): Promise<void> {
    if (layer === undefined || request.attempt >= MAX_ATTEMPTS) {
      this.#replies.error(key, request, EIO);
      return;
    }
    try {
      const length = Math.min(request.length, layer.index.size(request.inode) - request.offset);
      const bytes = await layer.fetch(request.inode, request.offset, length, signal);
      if (bytes === undefined) this.#replies.retry(key, { ...request, attempt: request.attempt + 1 });
      else if (bytes.length < length) this.#replies.error(key, request, EIO);
      else this.#replies.data(key, request, bytes.length > length ? bytes.subarray(0, length) : bytes);
    } catch (error) {
      this.#replies.error(key, request, errnoOf(error));
    }
  }

  /** The caller of a request was interrupted. The request may not have come yet: another worker passes it on. */
  interrupt(key: string, low: number, high: number): void {
    const name = nameOf(key, low, high);
    const pending = this.#pending.get(name);
    if (pending !== undefined) {
      pending.controller.abort(interrupted());
      return;
    }
    if (this.#interrupted.size >= MAX_EARLY_INTERRUPTS) this.#interrupted.clear();
    this.#interrupted.add(name);
  }

  /** Waits for all reads in hand. */
  async drain(): Promise<void> {
    while (this.#pending.size > 0) await Promise.all([...this.#pending.values()].map(({ done }) => done));
  }

  /** Gives up all reads in hand. */
  abort(): void {
    for (const { controller } of this.#pending.values()) controller.abort(interrupted());
  }
}

function interrupted(): Error {
  const error = new Error("the reader was interrupted");
  error.name = "AbortError";
  return error;
}

function nameOf(key: string, low: number, high: number): string {
  return `${key}:${(high & 0x7fffffff).toString(16)}:${low.toString(16)}`;
}

import { readFileSync } from "node:fs";
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

/** How often callers that were interrupted are looked at, in milliseconds: the kernel tells of the first signal only. */
const LOOK_INTERVAL_MS = 100;

interface PendingMiss {
  readonly request: MissRequest;
  readonly controller: AbortController;
  readonly done: Promise<void>;
}

/**
 * Reads of bytes that are not local: fetched by the layer, in any order, and given up when their caller is killed.
 *
 * The kernel tells of any signal, also of one that the caller handles and goes on after (a Go program gets them all the time). A
 * read into the page cache must not end for that: a page fault on a mapped file would become a crash. So only callers that are
 * being killed end their reads; reads past the page cache, which may fail with EINTR, end at any signal.
 */
export class Misses {
  readonly #replies: MissReplies;
  readonly #onEnd: (milliseconds: number) => void;
  readonly #isDying: (pid: number) => boolean;
  readonly #pending = new Map<string, PendingMiss>();
  readonly #interrupted = new Set<string>();
  /** Reads in hand whose callers had a signal that did not end them, so far. */
  readonly #watched = new Set<string>();
  #timer: NodeJS.Timeout | undefined;

  /** @param onEnd - Told how many milliseconds each read took, whatever its end. */
  constructor(replies: MissReplies, onEnd: (milliseconds: number) => void = () => {}, isDying: (pid: number) => boolean = isBeingKilled) {
    this.#onEnd = onEnd;
    this.#replies = replies;
    this.#isDying = isDying;
  }

  /** Number of reads in hand. */
  get size(): number {
    return this.#pending.size;
  }

  /** Takes a read in hand. */
  take(key: string, request: MissRequest, layer: DriverLayer | undefined): void {
    const name = nameOf(key, request.uniqueLow, request.uniqueHigh);
    const controller = new AbortController();
    const early = this.#interrupted.delete(name);
    if (early && this.#mayEnd(request)) controller.abort(interrupted());
    const begun = performance.now();
    const done = this.#fetch(key, request, layer, controller.signal).finally(() => {
      this.#onEnd(performance.now() - begun);
      this.#pending.delete(name);
      this.#watched.delete(name);
    });
    this.#pending.set(name, { request, controller, done });
    if (early) this.#watch(name);
  }

  #mayEnd({ direct, pid }: MissRequest): boolean {
    return direct || this.#isDying(pid);
  }

  /** A signal that kills may follow one that did not, and the kernel will not tell. */
  #watch(name: string): void {
    this.#watched.add(name);
    this.#timer ??= setInterval(() => this.#look(), LOOK_INTERVAL_MS).unref();
  }

  #look(): void {
    for (const name of this.#watched) {
      const pending = this.#pending.get(name);
      if (pending !== undefined && this.#mayEnd(pending.request)) pending.controller.abort(interrupted());
    }
    if (this.#watched.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
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
      if (this.#mayEnd(pending.request)) pending.controller.abort(interrupted());
      else this.#watch(name);
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
    this.#watched.clear();
    for (const { controller } of this.#pending.values()) controller.abort(interrupted());
  }
}

/** Bits of signal masks whose default is not to end a process: CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG, WINCH. */
const HARMLESS = [17n, 18n, 19n, 20n, 21n, 22n, 23n, 28n].reduce((mask, signal) => mask | (1n << (signal - 1n)), 0n);

/** Whether a thread is gone already, or has a signal pending that ends it: SIGKILL, or one that it neither handles, blocks nor ignores. */
function isBeingKilled(pid: number): boolean {
  // Not in our PID namespace: nothing is known of it, and waiting is never wrong.
  if (pid === 0) return false;
  let status: string;
  try {
    status = readFileSync(`/proc/${pid}/status`, "latin1");
  } catch {
    return true;
  }
  const mask = (name: string): bigint => BigInt(`0x${new RegExp(`^${name}:\\s*([0-9a-f]+)$`, "mu").exec(status)?.[1] ?? "0"}`);
  return ((mask("SigPnd") | mask("ShdPnd")) & ~(mask("SigBlk") | mask("SigIgn") | mask("SigCgt") | HARMLESS)) !== 0n;
}

function interrupted(): Error {
  const error = new Error("the reader was interrupted");
  error.name = "AbortError";
  return error;
}

function nameOf(key: string, low: number, high: number): string {
  return `${key}:${(high & 0x7fffffff).toString(16)}:${low.toString(16)}`;
}

import {
  type ByteRange,
  EstargzError,
  isEstargzError,
  type ReaderAt,
  type ReadOptions,
  type StreamReadOptions,
  type Tail,
} from "@estargz/interface";
import type { BlobFetcher } from "./blob-fetcher.ts";
import { BlobFlight } from "./blob-flight.ts";
import { streamBlob } from "./blob-stream.ts";
import { deadlineError, withDeadline } from "./deadlines.ts";
import { checkRange, type PlanOptions, planRuns } from "./range-planner.ts";
import { untilAborted } from "./single-flight.ts";

/** How a blob is read. */
export interface BlobReadSettings {
  readonly plan: PlanOptions;
  /** Deadline of a read besides what its bytes take at the lowest rate, in milliseconds. */
  readonly deadlineMs: number;
  readonly minBytesPerSecond: number;
  /** Most bytes of one read. */
  readonly maxReadBytes: number;
  /** Fewest runs that are asked for in one request. */
  readonly minSeveral: number;
}

/** Most ranges in one request: some servers' header limit is 4 KiB. */
const MAX_RANGES = 64;
/** Longer runs get a request of their own: they would wait for each other. */
const MAX_SHARED_RUN_BYTES = 256 * 1024;

/** A blob in a registry. */
export class RemoteBlob implements ReaderAt {
  readonly #fetcher: BlobFetcher;
  readonly #settings: BlobReadSettings;
  readonly #flights = new Set<BlobFlight>();
  readonly #closed = new AbortController();

  constructor(fetcher: BlobFetcher, settings: BlobReadSettings) {
    this.#fetcher = fetcher;
    this.#settings = settings;
  }

  get size(): number | undefined {
    return this.#fetcher.size;
  }

  async readAt(offset: number, length: number, options: ReadOptions = {}): Promise<Uint8Array> {
    this.#check(offset, length, options);
    return length === 0 ? new Uint8Array() : this.#read(offset, length, options);
  }

  async readTail(length: number, options: ReadOptions = {}): Promise<Tail> {
    this.#check(0, length, options, false);
    const known = this.size;
    if (known !== undefined) {
      const take = Math.min(length, known);
      return { bytes: await this.readAt(known - take, take, options), size: known };
    }
    const { api } = this.#fetcher.network;
    const { signal, priority } = options;
    const tail = await this.#deadline(signal, length, (own) =>
      api.acrossHosts(this.#fetcher.reference, "pull", { signal: own, what: this.#fetcher.what }, async (host) => {
        const suffix = length === 0 ? undefined : await this.#fetcher.fetchSuffix(host, length, own, priority);
        if (suffix !== undefined || this.size !== undefined) return suffix;
        await this.#fetcher.fetchSize(host, own, priority);
        return undefined;
      }),
    );
    if (tail !== undefined) return tail;
    const size = this.size ?? 0;
    const take = Math.min(length, size);
    return { bytes: await this.readAt(size - take, take, options), size };
  }

  async readRanges(ranges: readonly ByteRange[], options: ReadOptions = {}): Promise<Uint8Array[]> {
    for (const { offset, length } of ranges) this.#check(offset, length, options);
    const runs = planRuns(ranges, this.#settings.plan);
    const bytes = await this.#readRuns(runs, options);
    return ranges.map(({ offset, length }) => {
      if (length === 0) return new Uint8Array();
      const index = runs.findLastIndex((run) => run.offset <= offset);
      const run = runs[index];
      const whole = bytes[index];
      if (run === undefined || whole === undefined) throw new EstargzError("SHORT_READ", "a planned run is missing");
      const from = offset - run.offset;
      return from === 0 && length === whole.length && ranges.length === runs.length ? whole : whole.slice(from, from + length);
    });
  }

  stream(offset: number, length: number, options: StreamReadOptions = {}): AsyncIterable<Uint8Array> {
    this.#check(offset, length, options);
    return streamBlob(this.#fetcher, offset, length, options, this.#closed.signal);
  }

  /** Ends the reads in flight with `CLOSED`. The client's connections stay for others. */
  close(): Promise<void> {
    const error = new EstargzError("CLOSED", `the reader of ${this.#fetcher.what} is closed`);
    this.#closed.abort(error);
    for (const flight of this.#flights) flight.fail(error);
    return Promise.resolve();
  }

  #check(offset: number, length: number, { signal }: ReadOptions, againstSize = true): void {
    if (this.#closed.signal.aborted) throw this.#closed.signal.reason;
    signal?.throwIfAborted();
    checkRange(offset, length, againstSize ? this.size : undefined);
    if (length > this.#settings.maxReadBytes) {
      throw new EstargzError(
        "LIMIT_EXCEEDED",
        `a read of ${length} bytes is above the limit of ${this.#settings.maxReadBytes}: use stream`,
      );
    }
  }

  async #readRuns(runs: readonly ByteRange[], options: ReadOptions): Promise<Uint8Array[]> {
    const small = runs.filter(({ length }) => length <= MAX_SHARED_RUN_BYTES);
    const host = small.length < this.#settings.minSeveral ? undefined : (await this.#hosts())[0];
    const several = host !== undefined && this.#fetcher.network.allowsSeveral(this.#fetcher.origin(host));
    const waits = new Map<ByteRange, Promise<Uint8Array>>();
    if (several) {
      const free = small.filter((run) => !this.#overlaps(run));
      for (let at = 0; at < free.length; at += MAX_RANGES) {
        const group = free.slice(at, at + MAX_RANGES);
        if (group.length < this.#settings.minSeveral) break;
        for (const [run, wait] of this.#startGroup(group, options)) waits.set(run, wait);
      }
    }
    return Promise.all(runs.map((run) => waits.get(run) ?? this.#read(run.offset, run.length, options)));
  }

  async #hosts() {
    return this.#fetcher.network.api.hosts(this.#fetcher.reference, "pull");
  }

  #overlaps({ offset, length }: ByteRange): boolean {
    for (const flight of this.#flights) if (!flight.complete && flight.offset < offset + length && flight.end > offset) return true;
    return false;
  }

  /** One request for several runs; what it does not bring is asked for run by run. */
  #startGroup(runs: readonly ByteRange[], options: ReadOptions): Map<ByteRange, Promise<Uint8Array>> {
    const flights = runs.map(({ offset, length }) => new BlobFlight(offset, length));
    const waits = new Map(runs.map((run, index) => [run, (flights[index] as BlobFlight).wait(run.offset, run.length, options.signal)]));
    for (const flight of flights) this.#flights.add(flight);
    const group = new AbortController();
    for (const flight of flights) {
      flight.signal.addEventListener("abort", () => {
        if (flights.every(({ signal, complete }) => signal.aborted || complete)) group.abort(flight.signal.reason);
      });
    }
    void this.#fillGroup(runs, flights, group.signal, options.priority).finally(() => {
      for (const flight of flights) {
        if (flight.complete || flight.failed) this.#flights.delete(flight);
        else void this.#fill(flight, options.priority);
      }
    });
    return waits;
  }

  async #fillGroup(
    runs: readonly ByteRange[],
    flights: readonly BlobFlight[],
    signal: AbortSignal,
    priority: number | undefined,
  ): Promise<void> {
    const { network } = this.#fetcher;
    const bytes = runs.reduce((sum, { length }) => sum + length, 0);
    try {
      await this.#deadline(signal, bytes, async (own) => {
        const host = (await this.#hosts())[0];
        if (host === undefined) return;
        const asked = this.#fetcher.origin(host);
        let next = 0;
        let refused = false;
        const learn = (): void => {
          network.refusedSeveral(asked);
          network.refusedSeveral(this.#fetcher.origin(host));
        };
        try {
          await this.#fetcher.fetch(host, {
            ranges: runs,
            signal: own,
            priority,
            answered: (kind) => {
              refused = kind === "whole";
              const end = runs.at(-1);
              // A whole blob is used if that costs little more than what was asked for.
              if (refused && end !== undefined && end.offset + end.length > 2 * bytes + 1024 * 1024) {
                throw new EstargzError("RANGE_UNSUPPORTED", "the server does not serve several ranges at once");
              }
            },
            bytes: (position, piece) => {
              // Runs are in order, and so are the bytes of all but odd servers.
              for (let at = next; at < flights.length; at++) {
                const flight = flights[at] as BlobFlight;
                if (flight.offset >= position + piece.length) break;
                flight.offer(position, piece);
                if (flight.complete && at === next) next += 1;
              }
            },
          });
        } catch (error) {
          if (isEstargzError(error, "RANGE_UNSUPPORTED", "INVALID_RESPONSE")) learn();
          throw error;
        }
        if (refused || !flights.every(({ complete, signal: { aborted } }) => complete || aborted)) learn();
      });
    } catch {
      // Each run is asked for alone now, and fails with an error of its own if it must.
    }
  }

  /** Reads a run: joins what is on its way already and fetches the rest. */
  async #read(offset: number, length: number, options: ReadOptions): Promise<Uint8Array> {
    const { signal, priority } = options;
    for (const flight of this.#flights) {
      // A complete one's buffer belongs to whoever asked for it first.
      if (flight.complete || flight.failed || flight.offset >= offset + length || flight.end <= offset) continue;
      if (flight.offset <= offset && flight.end >= offset + length) return flight.wait(offset, length, signal);
      return this.#readAround(flight, offset, length, options);
    }
    const flight = new BlobFlight(offset, length);
    const wait = flight.wait(offset, length, signal);
    this.#flights.add(flight);
    void this.#fill(flight, priority);
    return wait;
  }

  /** Part of the run is on its way in `flight`: waits for that and fetches what lies before and after. */
  async #readAround(flight: BlobFlight, offset: number, length: number, options: ReadOptions): Promise<Uint8Array> {
    const start = Math.max(offset, flight.offset);
    const end = Math.min(offset + length, flight.end);
    const parts = [flight.wait(start, end - start, options.signal)];
    if (offset < start) parts.unshift(this.#read(offset, start - offset, options));
    if (end < offset + length) parts.push(this.#read(end, offset + length - end, options));
    return Buffer.concat(await Promise.all(parts));
  }

  /** Fetches what a flight still lacks, resuming where an answer was cut. */
  async #fill(flight: BlobFlight, priority: number | undefined): Promise<void> {
    const fetcher = this.#fetcher;
    const { api } = fetcher.network;
    const ranges = (): ByteRange[] => [{ offset: flight.offset + flight.filled, length: flight.length - flight.filled }];
    const bytes = (position: number, piece: Buffer): void => flight.offer(position, piece);
    const target = (position: number): Uint8Array | undefined => flight.target(position);
    const { signal } = flight;
    const ms = this.#deadlineMs(flight.length);
    const deadline = api.deadlines.keep(ms, () => flight.cancel(deadlineError(`a read of ${fetcher.what}`, ms)));
    try {
      await api.acrossHosts(fetcher.reference, "pull", { signal, what: fetcher.what, progress: () => flight.filled }, async (host) => {
        // A server may send less than asked for: then the rest is asked for at once.
        for (let before = -1; !flight.complete && flight.filled > before; ) {
          before = flight.filled;
          await fetcher.fetch(host, { ranges: ranges(), signal, priority, bytes, target });
          if (fetcher.size !== undefined) checkRange(flight.offset, flight.length, fetcher.size);
        }
        if (!flight.complete) {
          const reached = flight.offset + flight.filled;
          const code = fetcher.size !== undefined && reached >= fetcher.size ? "OUT_OF_RANGE" : "SHORT_READ";
          throw new EstargzError(
            code,
            `${host.url.host} gave ${flight.filled} of ${flight.length} bytes from ${flight.offset} of ${fetcher.what}`,
          );
        }
      });
    } catch (error) {
      flight.fail(await this.#foreign(flight, ranges, error, priority));
    } finally {
      api.deadlines.drop(deadline);
      this.#flights.delete(flight);
    }
  }

  /** A layer that the registry does not hold may have alternative URLs. Gives the error to fail with. */
  async #foreign(flight: BlobFlight, ranges: () => ByteRange[], error: unknown, priority: number | undefined): Promise<unknown> {
    if (this.#fetcher.descriptor.urls === undefined || !isEstargzError(error, "NOT_FOUND")) return error;
    try {
      await this.#fetcher.fetchForeign({
        ranges: ranges(),
        signal: flight.signal,
        priority,
        bytes: (position, piece) => flight.offer(position, piece),
      });
      return error;
    } catch (cause) {
      return isEstargzError(cause) ? cause : error;
    }
  }

  #deadlineMs(bytes: number): number {
    return this.#settings.deadlineMs + (bytes * 1000) / this.#settings.minBytesPerSecond;
  }

  #deadline<T>(signal: AbortSignal | undefined, bytes: number, task: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { deadlines } = this.#fetcher.network.api;
    const what = `a read of ${this.#fetcher.what}`;
    return withDeadline({ deadlines, ms: this.#deadlineMs(bytes), signal, what }, (own) => untilAborted(task(own), own));
  }
}

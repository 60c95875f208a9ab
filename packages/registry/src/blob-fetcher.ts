import { type ByteRange, type Descriptor, EstargzError, isEstargzError } from "@estargz/interface";
import { BlobLocations } from "./blob-location.ts";
import type { RegistryHost } from "./hosts/host.ts";
import { type BodyFlow, type BodySink, discard, headerOf, type ResponseHead } from "./http/exchange.ts";
import { checkTarget } from "./http/target-policy.ts";
import { DIRECT } from "./http/transport.ts";
import { formatRange, parseUnsatisfiedRange } from "./range.ts";
import { acceptRanges, type RangeWanted, SIZE_WANTED } from "./range-sink.ts";
import type { Reference } from "./reference.ts";
import { type ApiOutcome, type RegistryApi, refererOf, targetConnection } from "./registry-api.ts";

/** Statuses of a redirect's target that mean that the registry has to be asked again. */
const EXPIRED = new Set([400, 401, 403, 404, 410]);
/** How long a server that refused several ranges in one request is not asked for them again. */
const REFUSAL_MS = 3_600_000;
const MAX_REFUSALS = 1000;

/** How ranges are asked for, with one callback for what arrives. */
export interface FetchRequest {
  readonly ranges: readonly ByteRange[];
  readonly signal: AbortSignal;
  readonly priority: number | undefined;
  readonly bytes: (position: number, bytes: Buffer, transient: boolean) => void;
  /** Where the bytes from `position` on are wanted, if the caller has a place for them. */
  readonly target?: (position: number) => Uint8Array | undefined;
  /** Called with the means to hold back the body, before its first byte. */
  readonly flow?: (flow: BodyFlow) => void;
  readonly answered?: (kind: "partial" | "multipart" | "whole") => void;
}

/** What blobs of one client share. */
export class BlobNetwork {
  readonly api: RegistryApi;
  readonly locations: BlobLocations;
  readonly maxSkipBytes: number;
  readonly #refusals = new Map<string, number>();

  constructor(api: RegistryApi, maxSkipBytes: number) {
    this.api = api;
    this.locations = new BlobLocations(api.clock);
    this.maxSkipBytes = maxSkipBytes;
  }

  /** Whether a server may be asked for several ranges in one request. */
  allowsSeveral(origin: string): boolean {
    const until = this.#refusals.get(origin);
    if (until === undefined) return true;
    if (this.api.clock.now() < until) return false;
    this.#refusals.delete(origin);
    return true;
  }

  refusedSeveral(origin: string): void {
    // Redirects may lead to any number of servers.
    if (this.#refusals.size >= MAX_REFUSALS) this.#refusals.clear();
    this.#refusals.set(origin, this.api.clock.now() + REFUSAL_MS);
  }
}

/** Gets ranges of one blob of one reference: one attempt at one server at a time. */
export class BlobFetcher {
  readonly network: BlobNetwork;
  readonly reference: Reference;
  readonly descriptor: Descriptor;
  readonly #path: string;
  #size: number | undefined;

  /** `path` below the host's root is the registry API's by default. */
  constructor(network: BlobNetwork, reference: Reference, descriptor: Descriptor, path?: string) {
    this.#path = path ?? `/${reference.repository}/blobs/${descriptor.digest}`;
    this.network = network;
    this.reference = reference;
    this.descriptor = descriptor;
    this.#size = descriptor.size >= 0 ? descriptor.size : undefined;
  }

  get size(): number | undefined {
    return this.#size;
  }

  get what(): string {
    return `blob ${this.descriptor.digest} of ${this.reference.host}/${this.reference.repository}`;
  }

  /** Remembers the size. @throws `INVALID_RESPONSE` if another one is known. */
  learn(size: number): void {
    if (this.#size !== undefined && this.#size !== size) {
      throw new EstargzError("INVALID_RESPONSE", `${this.what} has ${size} bytes where ${this.#size} are expected`);
    }
    this.#size = size;
  }

  #locationKey(host: RegistryHost): string {
    return `${host.url.href} ${this.#path}`;
  }

  /** Where requests to a host for this blob end up, as far as known. */
  origin(host: RegistryHost): string {
    return this.network.locations.get(this.#locationKey(host))?.url.origin ?? host.url.origin;
  }

  /**
   * Asks one host for ranges, once. Resolves when its answer has been handed on, whether or not it had everything.
   *
   * @throws `NOT_FOUND` and the other codes of answers, `INVALID_RESPONSE`, `RANGE_UNSUPPORTED`, `TIMEOUT`, …
   */
  async fetch(host: RegistryHost, request: FetchRequest): Promise<void> {
    try {
      await this.#fetch(host, request);
    } catch (error) {
      if (this.#size !== undefined || !isEstargzError(error) || error.details[SIZE_WANTED] !== true) throw error;
      await this.fetchSize(host, request.signal, request.priority);
      await this.#fetch(host, request);
    }
  }

  async #fetch(host: RegistryHost, request: FetchRequest): Promise<void> {
    const header = formatRange(request.ranges);
    const outcome = await this.#get(host, request, header, (head, flow) => {
      const wanted: RangeWanted = {
        ranges: request.ranges,
        size: this.#size,
        maxSkipBytes: this.network.maxSkipBytes,
        host: host.url.host,
        learned: (size) => this.learn(size),
        bytes: request.bytes,
        ...(request.target === undefined ? {} : { target: request.target }),
        ...(request.answered === undefined ? {} : { answered: request.answered }),
      };
      const sink = acceptRanges(wanted, head);
      if (sink !== undefined) request.flow?.(flow);
      return sink;
    });
    if (outcome.accepted) return;
    this.#refuse(outcome, request.ranges.length);
  }

  /** The error for an answer that had no bytes of the blob. */
  #refuse(outcome: ApiOutcome<undefined>, ranges: number): never {
    const { status } = outcome.head;
    if (status === 416) {
      const size = parseUnsatisfiedRange(headerOf(outcome.head, "content-range"));
      if (ranges === 1 && size !== undefined && this.#size === undefined) {
        this.learn(size);
        throw new EstargzError("OUT_OF_RANGE", `${this.what} has only ${size} bytes`, { details: { size } });
      }
      throw new EstargzError("INVALID_RESPONSE", `${outcome.url.host} refused a range of ${this.what} that should exist`, {
        details: { status, host: outcome.url.host },
      });
    }
    throw this.network.api.error(outcome, this.what);
  }

  /** A GET for the blob, at the remembered target of the host's redirect if there is one. */
  async #get(
    host: RegistryHost,
    request: { readonly signal: AbortSignal | undefined; readonly priority: number | undefined },
    range: string | undefined,
    accept: (head: ResponseHead, flow: BodyFlow) => BodySink<undefined> | undefined,
    method: "GET" | "HEAD" = "GET",
  ): Promise<ApiOutcome<undefined>> {
    const { api, locations } = this.network;
    const { signal, priority } = request;
    const headers: Record<string, string> = range === undefined ? {} : { range };
    const key = this.#locationKey(host);
    const location = method === "GET" ? locations.get(key) : undefined;
    if (location !== undefined) {
      const { url, connection } = location;
      const outcome = await api.transport.send(
        {
          url,
          method,
          headers: { ...headers, ...refererOf(host) },
          connection,
          signal,
          priority,
          what: this.what,
          direct: method === "GET",
        },
        accept,
      );
      // Several ranges are refused with 400, too, by targets that are still good.
      const refused = outcome.head.status === 400 && range?.includes(",") === true;
      if (outcome.accepted || refused || !EXPIRED.has(outcome.head.status)) return { ...outcome, url, connection };
      locations.delete(key);
    }
    const outcome = await api.request(
      host,
      {
        method,
        reference: this.reference,
        path: this.#path,
        headers,
        actions: "pull",
        signal,
        priority,
        what: this.what,
        direct: method === "GET",
      },
      accept,
    );
    if (outcome.accepted && outcome.url.origin !== host.url.origin && method === "GET") locations.set(key, outcome.url, outcome.connection);
    return outcome;
  }

  /** Asks one host for the blob's size. Servers that answer HEAD badly are asked for the first byte. */
  async fetchSize(host: RegistryHost, signal: AbortSignal, priority: number | undefined): Promise<number> {
    const request = { signal, priority };
    const head = await this.#get(host, request, undefined, ({ status }) => (status === 200 ? discard() : undefined), "HEAD");
    const length = headerOf(head.head, "content-length");
    if (head.accepted && length !== undefined && /^\d{1,16}$/.test(length)) {
      this.learn(Number(length));
      return Number(length);
    }
    try {
      await this.#fetch(host, { ranges: [{ offset: 0, length: 1 }], signal, priority, bytes: () => {} });
    } catch (error) {
      if (this.#size === undefined) throw error;
    }
    if (this.#size === undefined) throw new EstargzError("INVALID_RESPONSE", `${host.url.host} does not tell the size of ${this.what}`);
    return this.#size;
  }

  /** Asks one host for the blob's last bytes by a suffix range; `undefined` when it does not serve those. */
  async fetchSuffix(
    host: RegistryHost,
    length: number,
    signal: AbortSignal,
    priority: number | undefined,
  ): Promise<{ readonly bytes: Uint8Array; readonly size: number } | undefined> {
    const tail = new TailSink(length, host.url.host);
    const outcome = await this.#get(host, { signal, priority }, `bytes=-${length}`, (head) => tail.accept(head));
    if (outcome.accepted) {
      const { size } = tail;
      if (size === undefined) return undefined;
      this.learn(size);
      return tail.bytes === undefined ? undefined : { bytes: tail.bytes, size };
    }
    if (outcome.head.status === 416 || outcome.head.status === 501) return undefined;
    if (outcome.head.status === 400) return undefined;
    throw this.network.api.error(outcome, this.what);
  }

  /**
   * Gets ranges from the alternative URLs of the descriptor: without any credentials or header fields of ours.
   *
   * @throws the last URL's error.
   */
  async fetchForeign(request: FetchRequest): Promise<boolean> {
    for (const text of this.descriptor.urls ?? []) {
      if (!URL.canParse(text)) continue;
      const url = new URL(text);
      url.username = "";
      url.password = "";
      const from = (await this.network.api.hosts(this.reference, "pull"))[0]?.url ?? url;
      checkTarget(from, url, "for a foreign layer");
      const connection = targetConnection(from, url, DIRECT);
      const headers = { range: formatRange(request.ranges) };
      const outcome = await this.network.api.transport.send(
        { url, method: "GET", headers, connection, signal: request.signal, priority: request.priority, what: this.what },
        (head) =>
          acceptRanges(
            {
              ranges: request.ranges,
              size: this.#size,
              maxSkipBytes: this.network.maxSkipBytes,
              host: url.host,
              learned: (size) => this.learn(size),
              bytes: request.bytes,
            },
            head,
          ),
      );
      if (outcome.accepted) return true;
    }
    return false;
  }
}

/** Takes the answer to a suffix range: the last bytes of whatever comes. */
class TailSink {
  readonly #length: number;
  readonly #host: string;
  size: number | undefined;
  bytes: Uint8Array | undefined;

  constructor(length: number, host: string) {
    this.#length = length;
    this.#host = host;
  }

  accept(head: ResponseHead): BodySink<undefined> | undefined {
    if (head.status !== 200 && head.status !== 206) return undefined;
    const match = /^\s*bytes\s*[ =]\s*(\d{1,16})-(\d{1,16})\/(\d{1,16}|\*)\s*$/i.exec(headerOf(head, "content-range") ?? "");
    const encoding = headerOf(head, "content-encoding")?.toLowerCase() ?? "identity";
    // Perhaps a wrong label, perhaps not: told apart once the size is known from elsewhere.
    if (encoding !== "identity" && encoding !== "") return { ...discard(), end: () => undefined };
    if (head.status === 206 && match === null)
      throw new EstargzError("INVALID_RESPONSE", `${this.#host} answered a range without saying which`);
    const last = match === null ? undefined : Number(match[2]);
    const total = match === null || match[3] === "*" ? undefined : Number(match[3]);
    // A server that took "-n" for "the first n bytes", or does not tell the total: its bytes are of no use.
    if (head.status === 206 && (total === undefined || last !== total - 1)) {
      this.size = total;
      return { ...discard(), end: () => undefined };
    }
    return this.#collect(total, match === null ? undefined : Number(match[1]));
  }

  #collect(total: number | undefined, first: number | undefined): BodySink<undefined> {
    let pieces: Buffer[] = [];
    let kept = 0;
    let received = 0;
    return {
      write: (bytes) => {
        pieces.push(Buffer.from(bytes));
        kept += bytes.length;
        received += bytes.length;
        if (kept > 2 * this.#length + 1024 * 1024) {
          const tail = Buffer.concat(pieces).subarray(-this.#length);
          pieces = [Buffer.from(tail)];
          kept = tail.length;
        }
        return false;
      },
      end: () => {
        const announced = total === undefined || first === undefined ? undefined : total - first;
        if (announced !== undefined && received !== announced) {
          throw new EstargzError("SHORT_READ", `${this.#host} sent ${received} of ${announced} bytes`);
        }
        this.size = total ?? received;
        this.bytes = new Uint8Array(Buffer.concat(pieces).subarray(-Math.min(this.#length, this.size)));
      },
    };
  }
}

import { type ByteRange, EstargzError, type ReaderAt, type ReadOptions, type Tail } from "@estargz/interface";
import { checkRange } from "./memory.ts";

/** Options of {@link fromUrl}. */
export interface FromUrlOptions {
  /** Default: the global `fetch`. */
  readonly fetch?: typeof fetch | undefined;
  /** Sent with every request. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Size of the blob in bytes, if it is known. */
  readonly size?: number | undefined;
}

/**
 * Reads a file over HTTP with Range requests: in browsers, Workers, Deno, Bun and Node. For registries, with their tokens, mirrors
 * and retries, use `@estargz/registry`. A server that ignores ranges is an error, not a download of everything.
 *
 * @throws {@link EstargzError} from reads: `RANGE_UNSUPPORTED` for an answer of 200, `NOT_FOUND`, `UNAUTHORIZED`, `FORBIDDEN`, `RATE_LIMITED`,
 * `INVALID_RESPONSE` for an answer that isn't what was asked for, `REGISTRY_UNAVAILABLE` for 5xx and network errors.
 */
export function fromUrl(url: string | URL, options: FromUrlOptions = {}): ReaderAt {
  return new UrlReader(url, options);
}

const CONTENT_RANGE = /^bytes (\d+)-(\d+)\/(\d+)$/;

class UrlReader implements ReaderAt {
  readonly #url: string | URL;
  readonly #fetch: typeof fetch;
  readonly #headers: Readonly<Record<string, string>>;
  #size: number | undefined;
  #closed = false;

  constructor(url: string | URL, options: FromUrlOptions) {
    this.#url = url;
    this.#fetch = options.fetch ?? ((input, init) => fetch(input, init));
    this.#headers = options.headers ?? {};
    this.#size = options.size;
  }

  get size(): number | undefined {
    return this.#size;
  }

  async readAt(offset: number, length: number, options: ReadOptions = {}): Promise<Uint8Array> {
    options.signal?.throwIfAborted();
    checkRange(offset, length, this.#size);
    if (length === 0) return new Uint8Array(0);
    const answer = await this.#request(`bytes=${offset}-${offset + length - 1}`, length, options.signal);
    if (answer === undefined) throw new EstargzError("OUT_OF_RANGE", `can't read ${length} bytes at ${offset}: the blob ends before`);
    if (answer.first !== offset || answer.last >= offset + length) throw invalidResponse("the server sent other bytes than were asked for");
    if (answer.bytes.length === length) return answer.bytes;
    if (answer.last === answer.size - 1)
      throw new EstargzError("OUT_OF_RANGE", `can't read ${length} bytes at ${offset} of a blob of ${answer.size} bytes`);
    throw new EstargzError("SHORT_READ", `got ${answer.bytes.length} of ${length} bytes at ${offset}`);
  }

  async readTail(length: number, options: ReadOptions = {}): Promise<Tail> {
    options.signal?.throwIfAborted();
    checkRange(0, length, undefined);
    const answer = await this.#request(`bytes=-${Math.max(1, length)}`, Math.max(1, length), options.signal);
    // 416 for a suffix: the blob is empty.
    if (answer === undefined) return { bytes: new Uint8Array(0), size: 0 };
    if (answer.last !== answer.size - 1) throw invalidResponse("the server sent other bytes than its last ones");
    if (answer.bytes.length !== Math.min(Math.max(1, length), answer.size))
      throw invalidResponse("the server sent fewer of its last bytes than asked for");
    return { bytes: answer.bytes.subarray(answer.bytes.length - Math.min(length, answer.size)), size: answer.size };
  }

  readRanges(ranges: readonly ByteRange[], options: ReadOptions = {}): Promise<Uint8Array[]> {
    return Promise.all(ranges.map(({ offset, length }) => this.readAt(offset, length, options)));
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  async #request(range: string, maxBytes: number, signal: AbortSignal | undefined): Promise<RangeAnswer | undefined> {
    if (this.#closed) throw new EstargzError("CLOSED", "this blob was closed");
    const response = await this.#send(range, signal);
    if (response.status === 416) {
      await response.body?.cancel();
      return undefined;
    }
    if (response.status !== 206) {
      await response.body?.cancel();
      throw statusError(response.status);
    }
    const match = CONTENT_RANGE.exec(response.headers.get("content-range") ?? "");
    const [first, last, size] = (match ?? []).slice(1).map(Number);
    if (first === undefined || last === undefined || size === undefined || last < first || last >= size) {
      await response.body?.cancel();
      throw invalidResponse("the server's Content-Range can't be read; a browser hides it unless the server exposes it (CORS)");
    }
    if (this.#size !== undefined && this.#size !== size) throw invalidResponse(`the blob changed its size from ${this.#size} to ${size}`);
    this.#size = size;
    const bytes = await readBody(response, Math.min(maxBytes, last - first + 1), signal);
    signal?.throwIfAborted();
    if (bytes.length !== last - first + 1)
      throw new EstargzError("SHORT_READ", `got ${bytes.length} of ${last - first + 1} bytes at ${first}`);
    return { first, last, size, bytes };
  }

  async #send(range: string, signal: AbortSignal | undefined): Promise<Response> {
    const init: RequestInit = { headers: { ...this.#headers, range } };
    if (signal !== undefined) init.signal = signal;
    try {
      return await this.#fetch(this.#url, init);
    } catch (error) {
      signal?.throwIfAborted();
      throw new EstargzError("REGISTRY_UNAVAILABLE", "the request for a part of the blob failed", { cause: error });
    }
  }
}

interface RangeAnswer {
  readonly first: number;
  readonly last: number;
  readonly size: number;
  readonly bytes: Uint8Array;
}

/** Takes what was announced; a server that sends more is cut off. */
async function readBody(response: Response, length: number, signal: AbortSignal | undefined): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  let at = 0;
  const reader = response.body?.getReader();
  try {
    for (;;) {
      const piece = await reader?.read();
      if (piece === undefined || piece.done) return bytes.subarray(0, at);
      if (at + piece.value.length > length) throw invalidResponse("the server sent more bytes than were asked for");
      bytes.set(piece.value, at);
      at += piece.value.length;
    }
  } catch (error) {
    await reader?.cancel().catch(() => {});
    signal?.throwIfAborted();
    if (error instanceof EstargzError) throw error;
    throw new EstargzError("SHORT_READ", `the connection broke after ${at} of ${length} bytes`, { cause: error });
  }
}

function invalidResponse(reason: string): EstargzError {
  return new EstargzError("INVALID_RESPONSE", reason);
}

function statusError(status: number): EstargzError {
  const details = { details: { status } };
  if (status === 200)
    return new EstargzError("RANGE_UNSUPPORTED", "the server ignores Range requests; put the blob on one that doesn't", details);
  if (status === 401) return new EstargzError("UNAUTHORIZED", "the server wants credentials (401); give them in headers", details);
  if (status === 403) return new EstargzError("FORBIDDEN", "the server refuses the request (403)", details);
  if (status === 404 || status === 410) return new EstargzError("NOT_FOUND", `the server has no such blob (${status})`, details);
  if (status === 429) return new EstargzError("RATE_LIMITED", "the server asks for fewer requests (429)", details);
  if (status >= 500) return new EstargzError("REGISTRY_UNAVAILABLE", `the server answers ${status}`, details);
  return new EstargzError("INVALID_RESPONSE", `the server answers ${status} to a Range request`, details);
}

import { connect, type LookupFunction, type Socket } from "node:net";
import { ChunkedDecoder } from "./chunked.ts";
import type { Accept, BodyFlow, BodySink, ExchangeRequest, Outcome } from "./exchange.ts";
import { unwanted } from "./exchange.ts";
import { type ParsedHead, parseHead } from "./response-head.ts";

/** How connections of a pool are made. */
export interface DirectSettings {
  readonly host: string;
  readonly port: number;
  readonly connectTimeoutMs: number;
  readonly lookup: LookupFunction | undefined;
}

const SCRATCH_BYTES = 64 * 1024;
const MAX_HEAD_BYTES = 64 * 1024;
const IDLE_MS = 30_000;
const HEAD_END = Buffer.from("\r\n\r\n");

function failure(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}

/** The exchange that a connection is busy with. */
interface Current {
  readonly request: ExchangeRequest;
  readonly accept: Accept<unknown>;
  readonly resolve: (outcome: Outcome<unknown>) => void;
  readonly reject: (error: unknown) => void;
  readonly onAbort: () => void;
  readonly flow: BodyFlow;
  head: ParsedHead | undefined;
  sink: BodySink<unknown> | undefined;
  refused: BodySink<Buffer> | undefined;
  chunked: ChunkedDecoder | undefined;
  /** Bytes of the body that are still to come. */
  left: number;
  paused: boolean;
}

/**
 * A connection for plain http GETs that reads from the kernel straight into the buffer where the bytes are wanted.
 * A general HTTP client copies them several times on the way, which is most of its time at loopback's speed.
 */
export class DirectConnection {
  readonly #socket: Socket;
  readonly #onIdle: (connection: DirectConnection) => void;
  readonly #onGone: (connection: DirectConnection) => void;
  #scratch: Buffer | undefined;
  /** What the next read goes to, when that is the sink's own memory. */
  #target: Uint8Array | undefined;
  #head: Buffer = Buffer.alloc(0);
  #current: Current | undefined;
  #connected = false;
  #answers = 0;
  #keepAliveMs = IDLE_MS;

  constructor(settings: DirectSettings, onIdle: (connection: DirectConnection) => void, onGone: (connection: DirectConnection) => void) {
    this.#onIdle = onIdle;
    this.#onGone = onGone;
    this.#socket = connect({
      host: settings.host,
      port: settings.port,
      noDelay: true,
      keepAlive: true,
      ...(settings.lookup === undefined ? {} : { lookup: settings.lookup }),
      onread: { buffer: () => this.#nextBuffer(), callback: (length) => this.#onBytes(length) },
    });
    this.#socket.setTimeout(settings.connectTimeoutMs);
    this.#socket.on("connect", () => {
      this.#connected = true;
      this.#socket.setTimeout(this.#current?.request.headersTimeoutMs ?? this.#keepAliveMs);
    });
    this.#socket.on("timeout", () => this.#onTimeout());
    this.#socket.on("end", () => this.#onEnd());
    this.#socket.on("error", (error) => this.#fail(error));
    this.#socket.on("close", () => {
      this.#fail(failure("ECONNRESET", "the connection ended"));
      this.#onGone(this);
    });
  }

  /** Whether an answer has been read already: then the server may have closed it meanwhile. */
  get reused(): boolean {
    return this.#answers > 0;
  }

  get usable(): boolean {
    return !this.#socket.destroyed && this.#current === undefined;
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** Sends a request; the connection must be usable. */
  start<T>(request: ExchangeRequest, accept: Accept<T>): Promise<Outcome<T>> {
    return new Promise((resolve, reject) => {
      const { signal } = request;
      const onAbort = (): void => this.#fail(signal?.reason);
      const flow: BodyFlow = { pause: () => this.#pause(true), resume: () => this.#pause(false) };
      this.#current = {
        request,
        accept,
        resolve: resolve as (outcome: Outcome<unknown>) => void,
        reject,
        onAbort,
        flow,
        head: undefined,
        sink: undefined,
        refused: undefined,
        chunked: undefined,
        left: 0,
        paused: false,
      };
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#socket.ref();
      if (this.#connected) this.#socket.setTimeout(request.headersTimeoutMs);
      this.#socket.write(this.#requestText(request));
    });
  }

  #requestText({ method, path, origin, headers }: ExchangeRequest): string {
    let text = `${method} ${path} HTTP/1.1\r\nhost: ${origin.slice("http://".length)}\r\nconnection: keep-alive\r\n`;
    for (const [name, value] of Object.entries(headers)) {
      for (const one of Array.isArray(value) ? value : [value]) text += `${name}: ${one}\r\n`;
    }
    return `${text}\r\n`;
  }

  #pause(paused: boolean): void {
    const current = this.#current;
    if (current === undefined || current.paused === paused) return;
    current.paused = paused;
    if (paused) this.#socket.pause();
    else {
      // A timer that ran out meanwhile is not armed again by itself.
      this.#socket.setTimeout(current.request.bodyTimeoutMs);
      this.#socket.resume();
    }
  }

  #nextBuffer(): Uint8Array {
    const current = this.#current;
    this.#target = undefined;
    if (current?.sink?.target !== undefined && current.chunked === undefined && current.left > 0) {
      const target = current.sink.target();
      if (target !== undefined && target.length > 0) {
        this.#target = target.length > current.left ? target.subarray(0, current.left) : target;
        return this.#target;
      }
    }
    this.#scratch ??= Buffer.allocUnsafeSlow(SCRATCH_BYTES);
    return this.#scratch;
  }

  #onBytes(length: number): boolean {
    const current = this.#current;
    try {
      if (current === undefined) throw failure("ECONNRESET", "bytes came that nobody asked for");
      if (this.#target !== undefined) {
        current.left -= length;
        const enough = current.sink?.advance?.(length) ?? false;
        this.#bodyArrived(current, enough, 0);
      } else this.#onScratch(current, (this.#scratch as Buffer).subarray(0, length));
    } catch (error) {
      this.#fail(error);
    }
    return this.#current?.paused !== true;
  }

  #onScratch(current: Current, bytes: Buffer): void {
    if (current.head !== undefined) {
      this.#onBody(current, bytes);
      return;
    }
    const before = this.#head.length;
    const joined = before === 0 ? bytes : Buffer.concat([this.#head, bytes]);
    const end = joined.indexOf(HEAD_END, Math.max(0, before - 3));
    if (end < 0) {
      if (joined.length > MAX_HEAD_BYTES) throw failure("ERR_MALFORMED_ANSWER", "the head of the answer is too long");
      this.#head = Buffer.from(joined);
      return;
    }
    this.#head = Buffer.alloc(0);
    const rest = joined.subarray(end + HEAD_END.length);
    const head = parseHead(joined.toString("latin1", 0, end), current.request.method);
    if (head.status < 200) {
      if (rest.length > 0) this.#onScratch(current, rest);
      return;
    }
    current.head = head;
    this.#socket.setTimeout(current.request.bodyTimeoutMs);
    current.sink = current.accept(head, current.flow);
    if (current.sink === undefined) current.refused = unwanted();
    if (head.body === "chunked") current.chunked = new ChunkedDecoder();
    current.left = typeof head.body === "number" ? head.body : Number.POSITIVE_INFINITY;
    if (rest.length > 0 || current.left === 0) this.#onBody(current, rest);
  }

  #onBody(current: Current, bytes: Buffer): void {
    let enough = false;
    const body = (piece: Buffer): void => {
      if (!enough && piece.length > 0) enough = (current.sink ?? current.refused)?.write(piece, true) ?? false;
    };
    if (current.chunked !== undefined) {
      const used = current.chunked.write(bytes, body);
      if (current.chunked.done) current.left = 0;
      this.#bodyArrived(current, enough, bytes.length - used);
      return;
    }
    const take = Math.min(current.left, bytes.length);
    current.left -= take;
    body(take === bytes.length ? bytes : bytes.subarray(0, take));
    this.#bodyArrived(current, enough, bytes.length - take);
  }

  /** Ends the exchange when the body is complete, or enough of it. `extra` bytes came after the answer. */
  #bodyArrived(current: Current, enough: boolean, extra: number): void {
    if (this.#current !== current || (current.left > 0 && !enough)) return;
    const reusable = current.left === 0 && extra === 0 && current.head?.keepAlive === true;
    this.#finish(current, reusable);
  }

  #finish(current: Current, reusable: boolean): void {
    const { head, sink, refused } = current;
    if (head === undefined) return;
    const outcome: Outcome<unknown> =
      sink === undefined
        ? { accepted: false, head, body: refused?.end() ?? new Uint8Array() }
        : { accepted: true, head, value: sink.end() };
    this.#current = undefined;
    this.#answers += 1;
    current.request.signal?.removeEventListener("abort", current.onAbort);
    // A little less than the server, so that it never closes under a request.
    this.#keepAliveMs = Math.min(IDLE_MS, head.keepAliveMs === undefined ? IDLE_MS : Math.max(1, head.keepAliveMs - 1000));
    if (reusable) {
      this.#socket.setTimeout(this.#keepAliveMs);
      if (current.paused) this.#socket.resume();
      this.#socket.unref();
      this.#onIdle(this);
    } else this.#socket.destroy();
    current.resolve(outcome);
  }

  #onTimeout(): void {
    const current = this.#current;
    if (current?.paused === true) return;
    if (current === undefined) this.#socket.destroy();
    else if (!this.#connected) this.#fail(failure("ETIMEDOUT", "no connection in time"));
    else if (current.head === undefined) this.#fail(failure("UND_ERR_HEADERS_TIMEOUT", "no answer in time"));
    else this.#fail(failure("UND_ERR_BODY_TIMEOUT", "the body stopped"));
  }

  #onEnd(): void {
    const current = this.#current;
    if (current?.head?.body === "close") {
      try {
        this.#finish(current, false);
      } catch (error) {
        this.#fail(error);
      }
    } else this.#socket.destroy();
  }

  #fail(error: unknown): void {
    const current = this.#current;
    this.#socket.destroy();
    if (current === undefined) return;
    this.#current = undefined;
    current.request.signal?.removeEventListener("abort", current.onAbort);
    current.reject(error);
  }

  /** Whether the exchange that just failed got any answer. */
  get silent(): boolean {
    return this.#head.length === 0;
  }
}

import type { IncomingHttpHeaders } from "node:http";
import type { Readable } from "node:stream";
import type { Dispatcher } from "undici";

/** Status and header fields of an answer. */
export interface ResponseHead {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
}

/** Stops and restarts the arrival of a body. */
export interface BodyFlow {
  pause(): void;
  resume(): void;
}

/** Takes a body as it arrives. */
export interface BodySink<T> {
  /**
   * Takes bytes; `transient` ones are valid during the call only. True: that was enough, the rest is not wanted.
   */
  write(bytes: Buffer, transient?: boolean): boolean;
  /**
   * Where the next bytes are wanted, if the sink has a place for them: a source that can reads them straight there and
   * calls {@link advance} instead of `write`.
   */
  target?(): Uint8Array | undefined;
  /** Bytes were put into {@link target}, from its start. True: that was enough. */
  advance?(length: number): boolean;
  /** The body is complete, or enough of it: gives the result or throws. */
  end(): T;
}

/** Decides by the head what takes the body; `undefined`: not an answer that is wanted. */
export type Accept<T> = (head: ResponseHead, flow: BodyFlow) => BodySink<T> | undefined;

/** What came of a request. */
export type Outcome<T> =
  | { readonly accepted: true; readonly head: ResponseHead; readonly value: T }
  | { readonly accepted: false; readonly head: ResponseHead; readonly body: Uint8Array };

/** One request to one server. */
export interface ExchangeRequest {
  readonly origin: string;
  readonly path: string;
  readonly method: Dispatcher.HttpMethod;
  readonly headers: Readonly<Record<string, string | string[]>>;
  readonly body?: Uint8Array | Readable | undefined;
  readonly headersTimeoutMs: number;
  readonly bodyTimeoutMs: number;
  readonly signal: AbortSignal | undefined;
}

/** Most bytes of an unwanted answer that are read, so that its connection can be used again. */
const MAX_UNWANTED_BYTES = 64 * 1024;

/** The value of a header field; several fields of one name are joined. */
export function headerOf(head: ResponseHead, name: string): string | undefined {
  const value = head.headers[name];
  return Array.isArray(value) ? value.join(", ") : value;
}

/** Collects a body of at most `maxBytes`; `onLarge` makes the error for a larger one. */
export function collect(maxBytes: number, onLarge: () => Error): BodySink<Buffer> {
  const pieces: Buffer[] = [];
  let length = 0;
  return {
    write(bytes) {
      length += bytes.length;
      if (length > maxBytes) throw onLarge();
      pieces.push(Buffer.from(bytes));
      return false;
    },
    end: () => Buffer.concat(pieces),
  };
}

/** Throws a body away, up to a limit after which its connection is closed. */
export function discard(): BodySink<undefined> {
  let length = 0;
  return {
    write(bytes) {
      length += bytes.length;
      return length > MAX_UNWANTED_BYTES;
    },
    end: () => undefined,
  };
}

/** Keeps the start of an answer that is not wanted, for its error codes. */
export function unwanted(): BodySink<Buffer> {
  const pieces: Buffer[] = [];
  let length = 0;
  return {
    write(bytes) {
      pieces.push(Buffer.from(bytes));
      length += bytes.length;
      return length > MAX_UNWANTED_BYTES;
    },
    end: () => Buffer.concat(pieces),
  };
}

/** undici's handler of one request: the fastest way to its bytes, without a stream between. */
class ExchangeHandler<T> implements Dispatcher.DispatchHandler {
  readonly #accept: Accept<T>;
  readonly #signal: AbortSignal | undefined;
  readonly #resolve: (outcome: Outcome<T>) => void;
  readonly #reject: (error: unknown) => void;
  #controller: Dispatcher.DispatchController | undefined;
  #head: ResponseHead | undefined;
  #sink: BodySink<T> | undefined;
  #unwanted: BodySink<Buffer> | undefined;
  #settled = false;

  constructor(
    accept: Accept<T>,
    signal: AbortSignal | undefined,
    resolve: (outcome: Outcome<T>) => void,
    reject: (error: unknown) => void,
  ) {
    this.#accept = accept;
    this.#signal = signal;
    this.#resolve = resolve;
    this.#reject = reject;
    signal?.addEventListener("abort", this.#onAbort, { once: true });
  }

  readonly #onAbort = (): void => this.fail(this.#signal?.reason);

  /** Ends the exchange with an error; its connection is closed if it was begun. */
  fail(error: unknown): void {
    if (this.#settled) return;
    this.#settle();
    this.#reject(error);
    this.#controller?.abort(error instanceof Error ? error : new Error("aborted", { cause: error }));
  }

  #settle(): void {
    this.#settled = true;
    this.#signal?.removeEventListener("abort", this.#onAbort);
  }

  #finish(): void {
    const head = this.#head;
    if (this.#settled || head === undefined) return;
    try {
      const outcome: Outcome<T> | undefined =
        this.#sink !== undefined
          ? { accepted: true, head, value: this.#sink.end() }
          : { accepted: false, head, body: this.#unwanted?.end() ?? new Uint8Array() };
      this.#settle();
      this.#resolve(outcome);
    } catch (error) {
      this.fail(error);
    }
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#settled) controller.abort(new Error("aborted before it was sent"));
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number, headers: IncomingHttpHeaders): void {
    if (status < 200 || this.#settled) return;
    this.#head = { status, headers };
    try {
      this.#sink = this.#accept(this.#head, controller);
      if (this.#sink === undefined) this.#unwanted = unwanted();
    } catch (error) {
      this.fail(error);
    }
  }

  onResponseData(controller: Dispatcher.DispatchController, bytes: Buffer): void {
    if (this.#settled) return;
    try {
      const enough = (this.#sink ?? this.#unwanted)?.write(bytes) ?? false;
      if (!enough) return;
    } catch (error) {
      this.fail(error);
      return;
    }
    this.#finish();
    controller.abort(new Error("the rest is not wanted"));
  }

  onResponseEnd(): void {
    if (this.#head === undefined) this.fail(new Error("the answer ended before it began"));
    else this.#finish();
  }

  onResponseError(_controller: Dispatcher.DispatchController | undefined, error: Error): void {
    this.fail(error);
  }
}

/**
 * Sends one request and hands the answer's body to the sink that `accept` chooses. Every body is read to its end, or
 * its connection is closed: nothing is left open whatever happens.
 */
export function exchange<T>(dispatcher: Dispatcher, request: ExchangeRequest, accept: Accept<T>): Promise<Outcome<T>> {
  return new Promise((resolve, reject) => {
    if (request.signal?.aborted === true) {
      reject(request.signal.reason);
      return;
    }
    const handler = new ExchangeHandler(accept, request.signal, resolve, reject);
    try {
      dispatcher.dispatch(
        {
          origin: request.origin,
          path: request.path,
          method: request.method,
          headers: request.headers,
          body: request.body ?? null,
          headersTimeout: request.headersTimeoutMs,
          bodyTimeout: request.bodyTimeoutMs,
        },
        handler,
      );
    } catch (error) {
      handler.fail(error);
    }
  });
}

import type { Digest, LayerSource, ReaderAt, ReadOptions, StreamReadOptions } from "@estargz/interface";
import { isEstargzError, PRIORITY_ON_DEMAND } from "@estargz/interface";
import { type Attributes, type Context, context, type Span, SpanKind, SpanStatusCode, type Tracer, trace } from "@opentelemetry/api";

const MAX_WAITING = 1000;

/** What a span is begun with. */
export interface SpanRequest {
  readonly name: string;
  /** What it is a part of. */
  readonly parent: Context;
  readonly attributes?: Attributes | undefined;
  /** Whether it answers a call from outside. Default false. */
  readonly server?: boolean | undefined;
}

/**
 * Spans of how a layer comes to be shown: `prepare`, in it `open` and perhaps `prove`, and `first byte`, the first read that a process
 * waited for. Costs nothing to speak of while no SDK is registered with `@opentelemetry/api`.
 */
export class SnapshotterTracing {
  readonly #tracer: Tracer;
  /** Shown layers that nobody has read yet, with the span that showed them. */
  readonly #waiting = new Map<Digest, { readonly parent: Context; readonly shownAtMs: number }>();

  constructor(tracer: Tracer = trace.getTracer("@estargz/snapshotter")) {
    this.#tracer = tracer;
  }

  /** Runs `body` in a span; what it throws is noted, unless it only says that what was asked for is there already. */
  async span<T>(request: SpanRequest, body: (span: Span, inside: Context) => Promise<T>): Promise<T> {
    const kind = request.server === true ? SpanKind.SERVER : SpanKind.INTERNAL;
    const span = this.#tracer.startSpan(request.name, { kind, attributes: request.attributes ?? {} }, request.parent);
    try {
      return await body(span, trace.setSpan(request.parent, span));
    } catch (error) {
      if (!isEstargzError(error, "ALREADY_EXISTS")) fail(span, error);
      throw error;
    } finally {
      span.end();
    }
  }

  /** Says that a layer is shown: the first read that somebody waits for becomes a span of `parent`. */
  shown(digest: Digest, parent: Context): void {
    if (trace.getSpan(parent)?.isRecording() !== true) return;
    const [oldest] = this.#waiting.keys();
    if (this.#waiting.size >= MAX_WAITING && oldest !== undefined) this.#waiting.delete(oldest);
    this.#waiting.set(digest, { parent, shownAtMs: performance.now() });
  }

  /** Wraps the source that layers read from. */
  traced(source: LayerSource): LayerSource {
    return { open: (location) => new TracedReader(source.open(location), (options) => this.#begin(location.descriptor.digest, options)) };
  }

  #begin(digest: Digest, options: ReadOptions | undefined): Span | undefined {
    if (options?.priority !== PRIORITY_ON_DEMAND) return undefined;
    const waiting = this.#waiting.get(digest);
    if (waiting === undefined) return undefined;
    this.#waiting.delete(digest);
    const attributes = {
      "estargz.layer.digest": digest,
      "estargz.since_shown_ms": Math.round(performance.now() - waiting.shownAtMs),
    };
    return this.#tracer.startSpan("first byte", { kind: SpanKind.INTERNAL, attributes }, waiting.parent);
  }
}

function fail(span: Span, error: unknown): void {
  span.recordException(error instanceof Error ? error : String(error));
  span.setStatus({ code: SpanStatusCode.ERROR, message: error instanceof Error ? error.message : String(error) });
  if (isEstargzError(error)) span.setAttribute("estargz.code", error.code);
}

/** What calls outside of any trace are a part of. */
export function noTrace(): Context {
  return context.active();
}

class TracedReader implements ReaderAt {
  readonly #inner: ReaderAt;
  readonly #begin: (options: ReadOptions | undefined) => Span | undefined;
  readonly stream?: NonNullable<ReaderAt["stream"]>;

  constructor(inner: ReaderAt, begin: (options: ReadOptions | undefined) => Span | undefined) {
    this.#inner = inner;
    this.#begin = begin;
    const stream = inner.stream?.bind(inner);
    if (stream !== undefined) this.stream = (offset, length, options) => this.#streamed(stream(offset, length, options), options);
  }

  get size(): number | undefined {
    return this.#inner.size;
  }

  readAt(offset: number, length: number, options?: ReadOptions): Promise<Uint8Array> {
    return this.#timed(options, this.#inner.readAt(offset, length, options));
  }

  readTail(length: number, options?: ReadOptions): ReturnType<ReaderAt["readTail"]> {
    return this.#inner.readTail(length, options);
  }

  readRanges(ranges: Parameters<ReaderAt["readRanges"]>[0], options?: ReadOptions): Promise<Uint8Array[]> {
    return this.#timed(options, this.#inner.readRanges(ranges, options));
  }

  async #timed<T>(options: ReadOptions | undefined, read: Promise<T>): Promise<T> {
    const span = this.#begin(options);
    try {
      return await read;
    } catch (error) {
      if (span !== undefined) fail(span, error);
      throw error;
    } finally {
      span?.end();
    }
  }

  async *#streamed(pieces: AsyncIterable<Uint8Array>, options: StreamReadOptions | undefined): AsyncIterable<Uint8Array> {
    let span = this.#begin(options);
    try {
      for await (const piece of pieces) {
        span?.end();
        span = undefined;
        yield piece;
      }
    } catch (error) {
      if (span !== undefined) fail(span, error);
      throw error;
    } finally {
      span?.end();
    }
  }

  async close(): Promise<void> {
    await this.#inner.close?.();
  }
}

import {
  type ByteRange,
  type Digest,
  EstargzError,
  type LayerLocation,
  type LayerSource,
  parseDigest,
  type ReaderAt,
  type ReadOptions,
} from "@estargz/interface";

/** A request that a test source was asked. */
export interface TestRequest extends ByteRange {
  readonly digest: Digest;
  readonly reference: string;
  readonly priority: number | undefined;
}

/** What a test source does to a request before it is answered; may throw or wait. */
export type TestFault = (request: TestRequest, signal: AbortSignal | undefined) => void | Promise<void>;

/** Blobs in memory, with a log of requests and faults at will. */
export class TestSource implements LayerSource {
  readonly blobs: Map<Digest, Uint8Array> = new Map();
  readonly requests: TestRequest[] = [];
  fault: TestFault | undefined;
  /** Bytes of each piece of a stream. */
  pieceBytes = 64 * 1024;
  /** Called before each piece. */
  beforePiece: ((request: TestRequest, at: number, signal: AbortSignal | undefined) => void | Promise<void>) | undefined;
  /** Changes bytes on the way. */
  corrupt: ((request: TestRequest, bytes: Uint8Array) => void) | undefined;

  get fetchedBytes(): number {
    return this.requests.reduce((sum, request) => sum + request.length, 0);
  }

  add(digest: Digest, blob: Uint8Array): LayerLocation {
    this.blobs.set(digest, blob);
    return this.location(digest);
  }

  location(digest: Digest, reference = "test.example/image:1"): LayerLocation {
    return {
      reference,
      descriptor: { mediaType: "application/vnd.oci.image.layer.v1.tar+gzip", digest, size: this.blobs.get(digest)?.length ?? -1 },
    };
  }

  open(location: LayerLocation): ReaderAt {
    const { digest } = location.descriptor;
    const { reference } = location;
    const blob = (): Uint8Array => {
      const bytes = this.blobs.get(digest);
      if (bytes === undefined) throw new EstargzError("NOT_FOUND", `no blob ${digest}`);
      return bytes;
    };
    const begin = async (offset: number, length: number, options: ReadOptions | undefined): Promise<TestRequest> => {
      const request = { digest, reference, offset, length, priority: options?.priority };
      this.requests.push(request);
      options?.signal?.throwIfAborted();
      await this.fault?.(request, options?.signal);
      if (offset + length > blob().length) throw new EstargzError("OUT_OF_RANGE", `${offset}+${length} is past the end`);
      return request;
    };
    const take = (request: TestRequest, from: number, to: number): Uint8Array => {
      const bytes = Uint8Array.from(blob().subarray(from, to));
      this.corrupt?.({ ...request, offset: from, length: to - from }, bytes);
      return bytes;
    };
    const readAt = async (offset: number, length: number, options?: ReadOptions): Promise<Uint8Array> =>
      take(await begin(offset, length, options), offset, offset + length);
    const { pieceBytes } = this;
    const { blobs } = this;
    const before = (request: TestRequest, at: number, signal: AbortSignal | undefined): void | Promise<void> =>
      this.beforePiece?.(request, at, signal);
    return {
      get size() {
        return blobs.get(digest)?.length;
      },
      readAt,
      async readTail(length, options) {
        const size = blob().length;
        return { bytes: await readAt(Math.max(0, size - length), Math.min(size, length), options), size };
      },
      readRanges: (ranges, options) => Promise.all(ranges.map((range) => readAt(range.offset, range.length, options))),
      async *stream(offset, length, options) {
        const request = await begin(offset, length, options);
        for (let at = offset; at < offset + length; at += pieceBytes) {
          options?.signal?.throwIfAborted();
          await before(request, at - offset, options?.signal);
          yield take(request, at, Math.min(offset + length, at + pieceBytes));
        }
      },
    };
  }
}

/** Resolves never, but rejects when the signal says so. */
export function untilAborted(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_resolve, reject) => {
    if (signal?.aborted === true) reject(signal.reason);
    signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

/** Polls until something is so. */
export async function until(what: string, condition: () => boolean | Promise<boolean>, timeoutMs = 50_000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export const NO_DIGEST: Digest = parseDigest(`sha256:${"0".repeat(64)}`);

import { EstargzError } from "@estargz/interface";
import { runtime } from "#runtime";
import { type Batch, type BatchPool, type CompressedBatch, createBatchCompressor } from "./batch.ts";
import type { ResolvedWriteOptions } from "./write-options.ts";

/** Batches that are compressed on this thread before others are started: small layers aren't worth it. */
const BATCHES_BEFORE_THREADS = 2;

/** Compresses batches, several at a time where the runtime can, and gives their bytes in order; keeps the sums. */
export class CompressionPipeline {
  /** Digests that were asked for with the batches, in order. */
  readonly digests: string[] = [];
  readonly #options: ResolvedWriteOptions;
  readonly #compress: (batch: Batch) => CompressedBatch;
  readonly #memberOffsets: number[] = [];
  readonly #pending: Promise<CompressedBatch>[] = [];
  readonly #blobHash = runtime.createSha256();
  readonly #tarHash = runtime.createSha256();
  #pool: BatchPool | undefined;
  #submitted = 0;
  #size = 0;
  #uncompressedSize = 0;

  constructor(options: ResolvedWriteOptions) {
    const compress = createBatchCompressor(runtime, { format: options.compression, level: options.level });
    if (compress === undefined) {
      throw new EstargzError("UNSUPPORTED", `this runtime can't write ${options.compression}; Node can`);
    }
    this.#compress = compress;
    this.#options = options;
  }

  /** Bytes of the blob so far. */
  get size(): number {
    return this.#size;
  }

  /** Bytes that an unpacker sees so far. */
  get uncompressedSize(): number {
    return this.#uncompressedSize;
  }

  /** Offset of a member, once it was written. */
  memberOffset(member: number): number {
    return this.#memberOffsets[member] ?? 0;
  }

  /** Takes a batch; yields what has become of earlier ones. */
  async *submit(batch: Batch): AsyncIterable<Uint8Array> {
    this.#tarHash.update(batch.bytes);
    this.#uncompressedSize += batch.bytes.length;
    const threads = this.#options.threads ?? runtime.defaultThreads;
    if (threads <= 1 || this.#submitted < BATCHES_BEFORE_THREADS || runtime.createPool === undefined) {
      this.#submitted += 1;
      yield* this.finish();
      yield this.#account(this.#compress(batch));
      return;
    }
    this.#pool ??= runtime.createPool({ format: this.#options.compression, level: this.#options.level }, threads);
    const running = this.#pool.run(batch);
    // It is awaited in its turn.
    running.catch(() => {});
    this.#pending.push(running);
    while (this.#pending.length > threads + 2) yield this.#account(await (this.#pending.shift() as Promise<CompressedBatch>));
  }

  /** Yields what is left. */
  async *finish(): AsyncIterable<Uint8Array> {
    for (let next = this.#pending.shift(); next !== undefined; next = this.#pending.shift()) yield this.#account(await next);
  }

  #account(batch: CompressedBatch): Uint8Array {
    for (const length of batch.lengths) {
      this.#memberOffsets.push(this.#size);
      this.#size += length;
    }
    for (const digest of batch.digests) this.digests.push(digest);
    this.#blobHash.update(batch.bytes);
    return batch.bytes;
  }

  /** Accounts for bytes that are compressed already. */
  raw(bytes: Uint8Array, uncompressed: Uint8Array): Uint8Array {
    this.#size += bytes.length;
    this.#uncompressedSize += uncompressed.length;
    this.#blobHash.update(bytes);
    this.#tarHash.update(uncompressed);
    return bytes;
  }

  /** One member or frame of its own, not accounted for. */
  compressOne(bytes: Uint8Array): Uint8Array {
    return this.#compress({ bytes: bytes as Uint8Array<ArrayBuffer>, starts: [0], hashes: [] }).bytes;
  }

  /** Digests of the blob and of what an unpacker sees, in hexadecimal. May be called once. */
  digestsOfAll(): { digest: string; diffId: string } {
    return { digest: this.#blobHash.hex(), diffId: this.#tarHash.hex() };
  }

  async close(): Promise<void> {
    this.#pending.length = 0;
    await this.#pool?.close();
  }
}

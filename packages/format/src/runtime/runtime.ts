import type { Codec } from "@estargz/interface";
import type { BatchPool, CompressionSettings } from "../writer/batch.ts";

/** An SHA-256 in progress. */
interface Hasher {
  update(bytes: Uint8Array): void;
  /** The digest as lower-case hexadecimal text. May be called once. */
  hex(): string;
}

/** Compresses one member or frame at a time, whole, with the same bytes for the same input and level. */
export interface MemberCompressor {
  /** One gzip member or zstd frame that holds `parts`, one after the other. */
  compress(parts: readonly Uint8Array[]): Uint8Array;
}

/** What differs between Node and other runtimes: chosen at import by the `node` export condition. */
export interface Runtime {
  readonly name: "node" | "portable";
  /** SHA-256 as lower-case hexadecimal text. */
  sha256(bytes: Uint8Array): string;
  createSha256(): Hasher;
  /** Text of UTF-8 bytes; throws for bytes that aren't. */
  decodeUtf8(bytes: Uint8Array): string;
  /** Gives texts that stand in bytes, which are known to be ASCII there. The bytes are kept. */
  asciiReader(bytes: Uint8Array): (from: number, to: number) => string;
  readonly gzip: Codec;
  readonly zstd: Codec;
  /** `undefined` where the runtime can't write that format. */
  createCompressor(format: "gzip" | "zstd", level: number): MemberCompressor | undefined;
  /** Decompresses a stream of gzip members or zstd frames. Throws `INVALID_COMPRESSION` for damaged or truncated input. */
  decompress(format: "gzip" | "zstd", source: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array>;
  /** Threads that compress by default. */
  readonly defaultThreads: number;
  /** Threads that compress batches; `undefined` where the runtime has none. */
  createPool?(settings: CompressionSettings, threads: number): BatchPool;
  /** A place for a tar that has to be read twice. */
  createSpool(): Spool;
}

/** Bytes that are kept until they are read again. */
export interface Spool {
  write(bytes: Uint8Array): Promise<void>;
  /** Reads exactly `length` bytes. */
  read(offset: number, length: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

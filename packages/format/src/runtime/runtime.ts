import type { Codec } from "@estargz/interface";

/** An SHA-256 in progress. */
export interface Hasher {
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
  readonly gzip: Codec;
  readonly zstd: Codec;
  /** `undefined` where the runtime can't write that format. */
  createCompressor(format: "gzip" | "zstd", level: number): MemberCompressor | undefined;
  /** Decompresses a stream of gzip members or zstd frames. Throws `INVALID_COMPRESSION` for damaged or truncated input. */
  decompress(format: "gzip" | "zstd", source: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array>;
}

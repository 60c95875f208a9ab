import { type Codec, type Digest, EstargzError } from "@estargz/interface";
import { runtime } from "#runtime";

/** The codecs that chunks are decoded with. */
export interface Codecs {
  readonly gzip: Codec;
  readonly zstd: Codec;
}

/** Codecs of this runtime: node:zlib in Node; pako and fzstd elsewhere. */
export const defaultCodecs: Codecs = { gzip: runtime.gzip, zstd: runtime.zstd };

/** What {@link decodeChunk} has to know of a chunk; a `Chunk` and its layer's compression have all of it. */
export interface ChunkEncoding {
  readonly compression: "gzip" | "zstd";
  /** Uncompressed length in bytes. */
  readonly length: number;
  /** Bytes of output to skip before the chunk starts. Default 0. */
  readonly innerOffset?: number | undefined;
  /** Expected digest; without one nothing is compared. */
  readonly digest?: Digest | undefined;
  /** Whether it is a run of zeros; `bytes` isn't looked at then. */
  readonly zeros?: boolean | undefined;
}

/**
 * Decompresses and verifies a chunk: a pure function for workers that have no `Layer`.
 *
 * @param bytes - The blob from the chunk's `blobOffset` on, at least as far as its compressed bytes reach.
 * @throws {@link EstargzError} `DIGEST_MISMATCH` when the bytes are not what the TOC says, `INVALID_COMPRESSION` for damage.
 */
export function decodeChunk(bytes: Uint8Array, chunk: ChunkEncoding, codecs: Codecs = defaultCodecs): Uint8Array {
  const content =
    chunk.zeros === true
      ? new Uint8Array(chunk.length)
      : codecs[chunk.compression].decode(bytes, chunk.length, { skip: chunk.innerOffset ?? 0 });
  if (chunk.digest !== undefined) verifyDigest(content, chunk.digest, "a chunk");
  return content;
}

/**
 * Decodes several chunks that share one member (`innerOffset` packing) in one pass over it: whoever has fetched the member for
 * one of them has the others as well.
 *
 * @param bytes - The blob from the member's start on.
 * @returns The chunks' bytes in the order asked for.
 */
export function decodeMember(bytes: Uint8Array, chunks: readonly ChunkEncoding[], codecs: Codecs = defaultCodecs): Uint8Array[] {
  const [first] = chunks;
  const stored = chunks.filter((chunk) => chunk.zeros !== true);
  if (first === undefined || stored.length < 2) return chunks.map((chunk) => decodeChunk(bytes, chunk, codecs));
  const start = Math.min(...stored.map((chunk) => chunk.innerOffset ?? 0));
  const end = Math.max(...stored.map((chunk) => (chunk.innerOffset ?? 0) + chunk.length));
  const content = codecs[first.compression].decode(bytes, end - start, { skip: start });
  return chunks.map((chunk) => {
    const from = (chunk.innerOffset ?? 0) - start;
    const piece = chunk.zeros === true ? new Uint8Array(chunk.length) : content.slice(from, from + chunk.length);
    if (chunk.digest !== undefined) verifyDigest(piece, chunk.digest, "a chunk");
    return piece;
  });
}

/** Compares bytes with their digest. Throws `DIGEST_MISMATCH`; `UNSUPPORTED` for anything but sha256. */
export function verifyDigest(bytes: Uint8Array, expected: Digest, subject: string): void {
  if (!expected.startsWith("sha256:"))
    throw new EstargzError("UNSUPPORTED", `the digest of ${subject} is not a sha256 digest: ${expected.slice(0, 20)}`);
  const actual = `sha256:${runtime.sha256(bytes)}`;
  if (actual === expected) return;
  throw new EstargzError("DIGEST_MISMATCH", `${subject} is not what its digest says`, {
    details: { expected, actual, bytes: bytes.length },
  });
}

import { createHash } from "node:crypto";
import { type Descriptor, type Digest, EstargzError } from "@estargz/interface";

/** Content to push: bytes, or a function that gives them anew for each attempt. */
export type BlobContent = Uint8Array | (() => AsyncIterable<Uint8Array>);

/** Digest of bytes, with the algorithm of `like` (sha256 by default). */
export function digestOf(bytes: Uint8Array, like?: Digest): Digest {
  const algorithm = like?.startsWith("sha512:") === true ? "sha512" : "sha256";
  return `${algorithm}:${createHash(algorithm).update(bytes).digest("hex")}` as Digest;
}

/** Checks content that was fetched. @throws `DIGEST_MISMATCH` */
export function verifyBytes(bytes: Uint8Array, digest: Digest, what: string): void {
  const actual = digestOf(bytes, digest);
  if (actual !== digest)
    throw new EstargzError("DIGEST_MISMATCH", `${what} does not match its digest`, { details: { expected: digest, actual } });
}

/** Content as an iterable, whatever it was given as. */
export async function* iterate(content: BlobContent): AsyncGenerator<Uint8Array, void, void> {
  if (content instanceof Uint8Array) yield content;
  else yield* content();
}

/**
 * Content as an iterable that throws at its end if it was not what the descriptor says.
 *
 * @throws `DIGEST_MISMATCH`, `SHORT_READ`
 */
export async function* verified(content: AsyncIterable<Uint8Array>, descriptor: Descriptor): AsyncGenerator<Uint8Array, void, void> {
  const hash = createHash(descriptor.digest.startsWith("sha512:") ? "sha512" : "sha256");
  let size = 0;
  for await (const piece of content) {
    hash.update(piece);
    size += piece.length;
    yield piece;
  }
  if (descriptor.size >= 0 && size !== descriptor.size) {
    throw new EstargzError("SHORT_READ", `blob ${descriptor.digest} has ${size} bytes where ${descriptor.size} are expected`);
  }
  const actual = hash.digest("hex");
  if (actual !== descriptor.digest.slice(descriptor.digest.indexOf(":") + 1)) {
    throw new EstargzError("DIGEST_MISMATCH", `blob ${descriptor.digest} does not match its digest`);
  }
}

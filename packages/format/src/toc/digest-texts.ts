import type { Digest } from "@estargz/interface";
import { runtime } from "#runtime";

/** Bytes of `sha256:` and 64 digits. */
export const SHA256_TEXT_BYTES = 71;

/** Digests of a TOC by number, 0 for none: they stay where they stand in its bytes until somebody asks for one. */
export class DigestTexts {
  readonly #textAt: (from: number, to: number) => string;
  readonly #others: Digest[] = [];

  /** @param tocBytes - Kept; must not change. */
  constructor(tocBytes: Uint8Array) {
    this.#textAt = runtime.asciiReader(tocBytes);
  }

  /** Reference of a checked sha256 digest that stands at a place of the TOC. */
  at(position: number): number {
    return position + 1;
  }

  /** Reference of any other digest. */
  add(digest: Digest | undefined): number {
    return digest === undefined ? 0 : -this.#others.push(digest);
  }

  get(reference: number): Digest | undefined {
    if (reference > 0) return this.#textAt(reference - 1, reference - 1 + SHA256_TEXT_BYTES) as Digest;
    return reference === 0 ? undefined : this.#others[-reference - 1];
  }
}

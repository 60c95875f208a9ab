import { EstargzError } from "./errors.ts";

declare const digestBrand: unique symbol;

/** A content digest as the OCI image specification writes it, `algorithm:hex`, checked for form. */
export type Digest = string & { readonly [digestBrand]: true };

const SHA256 = /^sha256:[0-9a-f]{64}$/;
const SHA512 = /^sha512:[0-9a-f]{128}$/;

/** Says whether `text` is a well-formed sha256 or sha512 digest (OCI image-spec, descriptor.md, "Digests"). */
export function isDigest(text: unknown): text is Digest {
  return typeof text === "string" && (SHA256.test(text) || SHA512.test(text));
}

/**
 * Checks the form of a digest.
 *
 * @throws {@link EstargzError} `INVALID_DIGEST` for anything but a lower-case sha256 or sha512 digest.
 */
export function parseDigest(text: string): Digest {
  if (isDigest(text)) return text;
  const shown = text.length > 80 ? `${text.slice(0, 80)}…` : text;
  throw new EstargzError("INVALID_DIGEST", `${JSON.stringify(shown)} is not a sha256 or sha512 digest`);
}

/** The hexadecimal part of a digest: a safe file name. */
export function digestHex(digest: Digest): string {
  return digest.slice(digest.indexOf(":") + 1);
}

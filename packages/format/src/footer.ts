import { EstargzError } from "@estargz/interface";
import { asciiBytes, hasBytesAt, readUint64 } from "./bytes.ts";

/** What a footer says. */
export type Footer =
  | { readonly kind: "estargz" | "stargz"; readonly footerBytes: number; readonly tocOffset: number }
  | { readonly kind: "external"; readonly footerBytes: number }
  | {
      readonly kind: "zstd";
      readonly footerBytes: number;
      readonly tocOffset: number;
      readonly tocPackedBytes: number;
      readonly tocBytes: number;
      /** Where the payload ends: before the skippable frame that holds the TOC. */
      readonly payloadEnd: number;
    };

/** Bytes of the longest footer: a tail of this many bytes is enough to recognise any. */
export const MAX_FOOTER_BYTES = 72;

const GZIP_MAGIC = Uint8Array.of(0x1f, 0x8b, 8, 4);
const STORED_EMPTY = Uint8Array.of(1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0);
const STARGZ = asciiBytes("STARGZ");
const EXTERNAL = asciiBytes("STARGZEXTERNALTOC");
const SUBFIELD = asciiBytes("SG");
const ZSTD_REFERENCE_MAGIC = asciiBytes("GnUlInUx");
const ZSTD_CURRENT_MAGIC = asciiBytes("GNUlInUx");
const SKIPPABLE_MAGIC = Uint8Array.of(0x50, 0x2a, 0x4d, 0x18);

/**
 * Recognises the footer at the end of a layer's blob: eStargz (51 bytes), legacy stargz (47), external TOC (46),
 * zstd:chunked as the reference writes it (40) and as containers/storage does now (64).
 *
 * @param tail - The last bytes of the blob, {@link MAX_FOOTER_BYTES} of them if it is that long.
 * @param blobSize - Size of the whole blob.
 * @throws {@link EstargzError} `NOT_ESTARGZ` if there is no footer, `INVALID_FOOTER` if there is one that can't be true.
 */
export function parseFooter(tail: Uint8Array, blobSize: number): Footer {
  const footer = parseGzipFooter(tail) ?? parseZstdFooter(tail, blobSize);
  if (footer === undefined) {
    throw new EstargzError(
      "NOT_ESTARGZ",
      `the last bytes of this blob of ${blobSize} bytes are no footer of eStargz, stargz or zstd:chunked`,
    );
  }
  if (footer.kind === "external") return footer;
  const end = footer.kind === "zstd" ? footer.tocOffset + footer.tocPackedBytes : footer.tocOffset + 1;
  if (end > blobSize - footer.footerBytes || footer.tocOffset < 0) {
    throw new EstargzError(
      "INVALID_FOOTER",
      `the footer says that the TOC is at ${footer.tocOffset}, outside of this blob of ${blobSize} bytes`,
      {
        details: { tocOffset: footer.tocOffset, blobSize },
      },
    );
  }
  return footer;
}

function parseGzipFooter(tail: Uint8Array): Footer | undefined {
  const at51 = tail.length - 51;
  if (isGzipWithExtra(tail, at51, 26) && hasBytesAt(tail, at51 + 12, SUBFIELD) && hasBytesAt(tail, at51 + 32, STARGZ)) {
    if (tail[at51 + 14] !== 22 || tail[at51 + 15] !== 0)
      throw new EstargzError("INVALID_FOOTER", "the footer's subfield has a wrong length");
    return { kind: "estargz", footerBytes: 51, tocOffset: parseHexOffset(tail, at51 + 16) };
  }
  const at47 = tail.length - 47;
  if (isGzipWithExtra(tail, at47, 22) && hasBytesAt(tail, at47 + 28, STARGZ)) {
    return { kind: "stargz", footerBytes: 47, tocOffset: parseHexOffset(tail, at47 + 12) };
  }
  const at46 = tail.length - 46;
  if (isGzipWithExtra(tail, at46, 21) && hasBytesAt(tail, at46 + 12, SUBFIELD) && hasBytesAt(tail, at46 + 16, EXTERNAL)) {
    return { kind: "external", footerBytes: 46 };
  }
  return undefined;
}

function isGzipWithExtra(tail: Uint8Array, at: number, extraBytes: number): boolean {
  return hasBytesAt(tail, at, GZIP_MAGIC) && tail[at + 10] === extraBytes && tail[at + 11] === 0;
}

function parseHexOffset(tail: Uint8Array, at: number): number {
  let text = "";
  for (let i = at; i < at + 16; i += 1) text += String.fromCharCode(tail[i] as number);
  const offset = /^[0-9a-fA-F]{16}$/.test(text) ? Number.parseInt(text, 16) : Number.NaN;
  if (Number.isSafeInteger(offset)) return offset;
  throw new EstargzError(
    "INVALID_FOOTER",
    `the footer's TOC offset ${JSON.stringify(text)} is not a number of 16 hexadecimal digits below 2^53`,
  );
}

function parseZstdFooter(tail: Uint8Array, blobSize: number): Footer | undefined {
  const isReference = hasBytesAt(tail, tail.length - 8, ZSTD_REFERENCE_MAGIC);
  if (!isReference && !hasBytesAt(tail, tail.length - 8, ZSTD_CURRENT_MAGIC)) return undefined;
  const length = isReference ? 40 : 64;
  const at = tail.length - length;
  if (at < 8 || !hasBytesAt(tail, at - 8, SKIPPABLE_MAGIC) || tail[at - 4] !== length) {
    throw new EstargzError("INVALID_FOOTER", "the zstd:chunked footer is not a skippable frame of its own");
  }
  const [tocOffset, tocPackedBytes, tocBytes, type] = [0, 8, 16, 24].map((field) => readUint64(tail, at + field));
  if (tocOffset === undefined || tocPackedBytes === undefined || tocBytes === undefined || tocOffset < 8 || tocPackedBytes === 0) {
    throw new EstargzError("INVALID_FOOTER", "the zstd:chunked footer has numbers that can't be true", { details: { blobSize } });
  }
  if (type !== 1) throw new EstargzError("INVALID_FOOTER", `the zstd:chunked footer is of type ${type}; only type 1 is known`);
  return { kind: "zstd", footerBytes: length + 8, tocOffset, tocPackedBytes, tocBytes, payloadEnd: tocOffset - 8 };
}

/** The 51-byte footer of an eStargz blob. */
export function encodeEstargzFooter(tocOffset: number): Uint8Array {
  const footer = new Uint8Array(51);
  footer.set([0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 26, 0]);
  footer.set(SUBFIELD, 12);
  footer.set([22, 0], 14);
  footer.set(asciiBytes(tocOffset.toString(16).padStart(16, "0")), 16);
  footer.set(STARGZ, 32);
  footer.set(STORED_EMPTY, 38);
  return footer;
}

/** The 47-byte footer of a legacy stargz blob. For tests and tools: nothing new should be written in that format. */
export function encodeLegacyFooter(tocOffset: number): Uint8Array {
  const footer = new Uint8Array(47);
  footer.set([0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 22, 0]);
  footer.set(asciiBytes(tocOffset.toString(16).padStart(16, "0")), 12);
  footer.set(STARGZ, 28);
  footer.set(STORED_EMPTY, 34);
  return footer;
}

/** The 46-byte footer of a blob whose TOC is stored elsewhere. */
export function encodeExternalFooter(): Uint8Array {
  const footer = new Uint8Array(46);
  footer.set([0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 21, 0]);
  footer.set(SUBFIELD, 12);
  footer.set([17, 0], 14);
  footer.set(EXTERNAL, 16);
  footer.set(STORED_EMPTY, 33);
  return footer;
}

/** A zstd skippable frame (RFC 8878, 3.1.2). */
export function encodeSkippableFrame(content: Uint8Array): Uint8Array {
  const frame = new Uint8Array(8 + content.length);
  frame.set(SKIPPABLE_MAGIC);
  new DataView(frame.buffer).setUint32(4, content.length, true);
  frame.set(content, 8);
  return frame;
}

/** The footer of a zstd:chunked blob, in its skippable frame, as the reference reads it. */
export function encodeZstdFooter(position: { tocOffset: number; tocPackedBytes: number; tocBytes: number }): Uint8Array {
  const footer = new Uint8Array(40);
  const view = new DataView(footer.buffer);
  [position.tocOffset, position.tocPackedBytes, position.tocBytes, 1].forEach((value, i) => {
    view.setBigUint64(i * 8, BigInt(value), true);
  });
  footer.set(ZSTD_REFERENCE_MAGIC, 32);
  return encodeSkippableFrame(footer);
}

import { type Digest, EstargzError, isDigest, type Layer, parseDigest, type ReaderAt, type ReadOptions } from "@estargz/interface";
import { runtime } from "#runtime";
import { TOC_DIGEST_ANNOTATION, zstdAnnotation } from "./annotations.ts";
import { type Footer, MAX_FOOTER_BYTES, parseFooter } from "./footer.ts";
import { type LayerLimits, resolveLimits } from "./limits.ts";
import { type Codecs, defaultCodecs, verifyDigest } from "./reader/decode-chunk.ts";
import { createLayer } from "./reader/layer.ts";
import { unpackGzipToc, unpackZstdToc } from "./toc/unpack-toc.ts";

/** Options of {@link openLayer}. */
export interface OpenLayerOptions extends ReadOptions {
  /** Digest that the TOC has to have. Default: the layer's `toc.digest` annotation, if `annotations` has it. */
  readonly tocDigest?: Digest | undefined;
  /** Opens a layer of which no TOC digest is known, and chunks without digests. Default false. */
  readonly allowUnverified?: boolean | undefined;
  /** Annotations of the layer's descriptor: the TOC's digest and, for zstd:chunked, its place. */
  readonly annotations?: Readonly<Record<string, string>> | undefined;
  readonly limits?: Partial<LayerLimits> | undefined;
  /** Bytes of the blob's end to read first; one more read is needed if the TOC doesn't fit. Default: guessed from the size. */
  readonly tailBytes?: number | undefined;
  readonly codecs?: Partial<Codecs> | undefined;
  /** The TOC blob of a layer whose TOC is stored elsewhere: its bytes, or how to get them. */
  readonly externalToc?: Uint8Array | (() => Promise<Uint8Array>) | undefined;
}

// What a server may send on a new connection before it hears back (ten segments), less the head of its answer: the TOC of about
// 250 files. A longer guess would cost every layer round trips of slow start, a TOC that doesn't fit costs one.
const DEFAULT_TAIL_BYTES = 13 << 10;
/** Most bytes that are read at once because an annotation says that the TOC starts there. */
const MAX_HINTED_TAIL_BYTES = 16 << 20;

/**
 * Opens a layer: finds its format by its footer, reads its TOC, compares it with the expected digest and only then parses it.
 * One read if the guess of `tailBytes` was long enough, two otherwise.
 *
 * @throws {@link EstargzError} `NOT_ESTARGZ`, `INVALID_FOOTER`, `INVALID_TOC`, `INVALID_COMPRESSION`, `DIGEST_MISMATCH`, `LIMIT_EXCEEDED`,
 * `UNVERIFIED` if no TOC digest is known, and the codes of its `blob`. Aborts with the signal's reason.
 *
 * @example
 * ```ts
 * const layer = await openLayer(fromUrl("https://example.org/layer.tar.gz"), { tocDigest });
 * const hosts = layer.lookup("etc/hosts");
 * if (hosts !== undefined) console.log(await layer.readFile(hosts));
 * ```
 */
export async function openLayer(blob: ReaderAt, options: OpenLayerOptions = {}): Promise<Layer> {
  options.signal?.throwIfAborted();
  const limits = resolveLimits(options.limits);
  const expected = expectedDigests(options);
  const hint = zstdPosition(options.annotations);
  const tail = await blob.readTail(tailLength(blob.size, options.tailBytes, hint), options);
  const footer = findFooter(tail.bytes, tail.size, hint);
  const toc = await fetchToc(blob, footer, tail, limits, options);
  const verified = checkToc(toc, expected, options);
  return createLayer({
    blob,
    blobSize: tail.size,
    format: formatOf(footer),
    payloadEnd: payloadEndOf(footer, tail.size),
    tocBytes: toc.bytes,
    tocDigest: expected.toc ?? sha256Digest(toc.bytes),
    verified,
    limits,
    codecs: { ...defaultCodecs, ...options.codecs },
  });
}

/** Options of {@link openLayerFromToc}. */
export interface OpenLayerFromTocOptions {
  /** Where chunks will be read from. Not touched by opening. */
  readonly blob: ReaderAt;
  /** What {@link Layer.tocBytes} gave. */
  readonly tocBytes: Uint8Array;
  /** What the layer's properties of the same names said. */
  readonly format: Layer["format"];
  readonly blobSize: number;
  readonly payloadEnd: number;
  /** Digest that the TOC has to have; without it `allowUnverified` is needed. */
  readonly tocDigest?: Digest | undefined;
  readonly allowUnverified?: boolean | undefined;
  readonly limits?: Partial<LayerLimits> | undefined;
  readonly codecs?: Partial<Codecs> | undefined;
}

/**
 * Opens a layer again from stored TOC bytes, without any read. The TOC is verified again.
 *
 * @throws {@link EstargzError} `INVALID_TOC`, `DIGEST_MISMATCH`, `LIMIT_EXCEEDED`, `UNVERIFIED`.
 */
export function openLayerFromToc(options: OpenLayerFromTocOptions): Layer {
  const limits = resolveLimits(options.limits);
  const expected: ExpectedDigests = { toc: options.tocDigest, packedToc: undefined };
  const verified = checkToc({ bytes: options.tocBytes, packed: undefined }, expected, options);
  return createLayer({
    blob: options.blob,
    blobSize: options.blobSize,
    format: options.format,
    payloadEnd: options.payloadEnd,
    tocBytes: options.tocBytes,
    tocDigest: options.tocDigest ?? sha256Digest(options.tocBytes),
    verified,
    limits,
    codecs: { ...defaultCodecs, ...options.codecs },
  });
}

interface ExpectedDigests {
  /** Of the TOC's JSON. */
  readonly toc: Digest | undefined;
  /** Of the TOC as it is stored, compressed (zstd:chunked). */
  readonly packedToc: Digest | undefined;
}

interface TocContent {
  readonly bytes: Uint8Array;
  readonly packed: Uint8Array | undefined;
}

function expectedDigests({ tocDigest, annotations }: OpenLayerOptions): ExpectedDigests {
  const annotated = annotations?.[TOC_DIGEST_ANNOTATION];
  const packed = zstdAnnotation(annotations, "manifest-checksum");
  return {
    toc: tocDigest ?? (annotated === undefined ? undefined : parseDigest(annotated)),
    packedToc: isDigest(packed) ? packed : undefined,
  };
}

/** `manifest-position`: offset, compressed length, uncompressed length, type. */
function zstdPosition(annotations: Readonly<Record<string, string>> | undefined): Footer | undefined {
  const text = zstdAnnotation(annotations, "manifest-position");
  if (text === undefined) return undefined;
  const match = /^(\d{1,16}):(\d{1,16}):(\d{1,16}):1$/.exec(text);
  const [tocOffset, tocPackedBytes, tocBytes] = (match ?? []).slice(1).map(Number);
  if (tocOffset === undefined || tocPackedBytes === undefined || tocBytes === undefined || tocOffset < 8 || tocPackedBytes === 0) {
    throw new EstargzError(
      "INVALID_FOOTER",
      `the annotation manifest-position is ${JSON.stringify(text.slice(0, 80))}; offset:length:length:1 is expected`,
    );
  }
  return { kind: "zstd", footerBytes: 0, tocOffset, tocPackedBytes, tocBytes, payloadEnd: tocOffset - 8 };
}

function tailLength(size: number | undefined, asked: number | undefined, hint: Footer | undefined): number {
  if (asked !== undefined) {
    if (!Number.isSafeInteger(asked) || asked < 1)
      throw new EstargzError("INVALID_ARGUMENT", `tailBytes is ${asked}; it has to be a positive integer`);
    return Math.max(asked, MAX_FOOTER_BYTES);
  }
  if (size === undefined) return DEFAULT_TAIL_BYTES;
  const hinted = hint?.kind === "zstd" && hint.tocOffset < size ? size - hint.tocOffset : Number.POSITIVE_INFINITY;
  // An annotation that names a place far from the end is taken for a lie until the footer says the same.
  if (hinted <= MAX_HINTED_TAIL_BYTES) return Math.max(hinted, MAX_FOOTER_BYTES);
  // A TOC takes about 1 % of a layer of ordinary files.
  return Math.max(64 << 10, Math.min(2 << 20, Math.ceil(size / 50)));
}

function findFooter(tail: Uint8Array, size: number, hint: Footer | undefined): Footer {
  try {
    return parseFooter(tail, size);
  } catch (error) {
    // containers/storage goes by the annotation alone.
    if (hint?.kind === "zstd" && hint.tocOffset + hint.tocPackedBytes <= size) return hint;
    throw error;
  }
}

async function fetchToc(
  blob: ReaderAt,
  footer: Footer,
  tail: { bytes: Uint8Array; size: number },
  limits: LayerLimits,
  options: OpenLayerOptions,
): Promise<TocContent> {
  const codecs = { ...defaultCodecs, ...options.codecs };
  if (footer.kind === "external") {
    const external = typeof options.externalToc === "function" ? await options.externalToc() : options.externalToc;
    if (external === undefined) {
      throw new EstargzError(
        "NOT_FOUND",
        "the TOC of this layer is stored elsewhere; give it as externalToc (it is in the image with the tag suffix -esgztoc)",
      );
    }
    return { bytes: unpackGzipToc(external, limits, codecs.gzip), packed: undefined };
  }
  const length = footer.kind === "zstd" ? footer.tocPackedBytes : tail.size - footer.footerBytes - footer.tocOffset;
  if (length > limits.maxTocPackedBytes) {
    throw new EstargzError(
      "LIMIT_EXCEEDED",
      `the TOC takes ${length} bytes, above the limit maxTocPackedBytes of ${limits.maxTocPackedBytes}`,
    );
  }
  const packed = await packedToc(blob, footer.tocOffset, length, tail, options);
  if (footer.kind !== "zstd") return { bytes: unpackGzipToc(packed, limits, codecs.gzip), packed: undefined };
  return { bytes: unpackZstdToc(packed, footer.tocBytes, limits, codecs.zstd), packed };
}

/** The TOC's bytes: those of the tail, and before them what it lacks. */
async function packedToc(
  blob: ReaderAt,
  offset: number,
  length: number,
  tail: { bytes: Uint8Array; size: number },
  options: ReadOptions,
): Promise<Uint8Array> {
  const tailStart = tail.size - tail.bytes.length;
  if (offset >= tailStart) return tail.bytes.subarray(offset - tailStart, offset - tailStart + length);
  const missing = Math.min(length, tailStart - offset);
  const packed = new Uint8Array(length);
  packed.set(await blob.readAt(offset, missing, options));
  packed.set(tail.bytes.subarray(0, length - missing), missing);
  return packed;
}

function checkToc(toc: TocContent, expected: ExpectedDigests, options: { readonly allowUnverified?: boolean | undefined }): boolean {
  if (expected.toc !== undefined) {
    verifyDigest(toc.bytes, expected.toc, "the TOC");
    return true;
  }
  if (expected.packedToc !== undefined && toc.packed !== undefined) {
    verifyDigest(toc.packed, expected.packedToc, "the compressed TOC");
    return true;
  }
  if (options.allowUnverified === true) return false;
  throw new EstargzError(
    "UNVERIFIED",
    `no digest of this layer's TOC is known (annotation ${TOC_DIGEST_ANNOTATION}); allowUnverified opens it all the same`,
  );
}

function formatOf(footer: Footer): Layer["format"] {
  if (footer.kind === "zstd") return "zstd:chunked";
  return footer.kind === "external" ? "estargz-external-toc" : footer.kind;
}

function payloadEndOf(footer: Footer, size: number): number {
  if (footer.kind === "zstd") return footer.payloadEnd;
  return footer.kind === "external" ? size - footer.footerBytes : footer.tocOffset;
}

function sha256Digest(bytes: Uint8Array): Digest {
  return parseDigest(`sha256:${runtime.sha256(bytes)}`);
}

import { type Digest, EstargzError, parseDigest } from "@estargz/interface";
import { runtime } from "#runtime";
import { LAYER_DIGEST_ANNOTATION, TOC_DIGEST_ANNOTATION, UNCOMPRESSED_SIZE_ANNOTATION } from "../annotations.ts";
import { concatBytes } from "../bytes.ts";
import { encodeEstargzFooter, encodeExternalFooter, encodeSkippableFrame, encodeZstdFooter } from "../footer.ts";
import { NO_PREFETCH_LANDMARK, PREFETCH_LANDMARK } from "../reader/layer.ts";
import { encodeTarHeader, paddingOf } from "../tar/encode-tar.ts";
import type { TarHeader } from "../tar/tar-entry.ts";
import { cleanPath } from "../toc/path.ts";
import { TOC_NAME } from "../toc/unpack-toc.ts";
import { BatchBuilder } from "./batch-builder.ts";
import { CompressionPipeline } from "./compression-pipeline.ts";
import type { WrittenLayer } from "./layer-output.ts";
import { TocBuilder } from "./toc-builder.ts";
import { planChunks, type ResolvedWriteOptions } from "./write-options.ts";

/** What goes into a layer, in the order of the tar. */
export type WriterItem =
  | { readonly kind: "entry"; readonly header: TarHeader; readonly head: Uint8Array; readonly payload: AsyncIterable<Uint8Array> }
  /** Bytes that are no entry. */
  | { readonly kind: "other"; readonly bytes: Uint8Array };

const BATCH_BYTES = 1 << 20;
/** A member with more bytes of headers than this is ended at the next entry. */
const MAX_HEAD_MEMBER_BYTES = 4 << 20;
const END_MARK = new Uint8Array(1024);
const MEDIA_TYPE = { gzip: "application/vnd.oci.image.layer.v1.tar+gzip", zstd: "application/vnd.oci.image.layer.v1.tar+zstd" } as const;

const sha256Digest = (hex: string): Digest => parseDigest(`sha256:${hex}`);

/** Header of an entry that has nothing but a name, as landmarks and the TOC have it. */
function bareHeader(name: string, size: number): TarHeader {
  return {
    name,
    kind: "reg",
    linkName: "",
    mode: 0,
    uid: 0,
    gid: 0,
    mtime: { seconds: 0, nanoseconds: 0 },
    userName: "",
    groupName: "",
    devMajor: 0,
    devMinor: 0,
    size,
    xattrs: new Map(),
  };
}

/** The landmark of a layer. */
export function landmarkItem(prefetch: boolean): WriterItem {
  const header = bareHeader(prefetch ? PREFETCH_LANDMARK : NO_PREFETCH_LANDMARK, 1);
  return {
    kind: "entry",
    header,
    head: encodeTarHeader(header),
    payload: (async function* () {
      yield Uint8Array.of(0x0f);
    })(),
  };
}

/** Writes a layer of items that are in their final order. Yields the blob. */
export async function* writeItems(
  items: AsyncIterable<WriterItem>,
  options: ResolvedWriteOptions,
  missingFiles: () => readonly string[],
): AsyncGenerator<Uint8Array, WrittenLayer, undefined> {
  const pipeline = new CompressionPipeline(options);
  const writer = new ItemWriter(options);
  try {
    for await (const item of items) {
      for await (const _step of writer.add(item)) {
        options.signal?.throwIfAborted();
        const batch = writer.builder.take();
        if (batch !== undefined) yield* pipeline.submit(batch);
      }
      options.signal?.throwIfAborted();
    }
    if (!options.lossless && (options.externalToc || options.compression === "zstd")) writer.builder.append(END_MARK);
    const last = writer.builder.take();
    if (last !== undefined) yield* pipeline.submit(last);
    yield* pipeline.finish();
    const toc = writer.toc.encode((member) => pipeline.memberOffset(member), pipeline.digests);
    const tail = encodeTail(toc, pipeline, options);
    yield pipeline.raw(tail.bytes, tail.uncompressed);
    return describe(toc, tail, pipeline, options, missingFiles());
  } finally {
    await pipeline.close();
  }
}

/** Puts items into the builder. Stops, by yielding, whenever a batch is full. */
class ItemWriter {
  readonly builder: BatchBuilder = new BatchBuilder();
  readonly toc: TocBuilder = new TocBuilder();
  readonly #options: ResolvedWriteOptions;

  constructor(options: ResolvedWriteOptions) {
    this.#options = options;
  }

  async *add(item: WriterItem): AsyncIterable<void> {
    const { builder } = this;
    if (builder.memberBytes > MAX_HEAD_MEMBER_BYTES) {
      builder.cut();
      yield;
    }
    if (item.kind === "other") {
      builder.append(item.bytes);
      return;
    }
    builder.append(item.head);
    this.toc.addEntry(item.header);
    if (item.header.size > 0) {
      yield* this.#addPayload(item.header, item.payload);
      builder.append(new Uint8Array(paddingOf(item.header.size)));
    }
  }

  async *#addPayload(header: TarHeader, payload: AsyncIterable<Uint8Array>): AsyncIterable<void> {
    const { builder } = this;
    const { lengths, size } = planChunks({ path: cleanPath(header.name), size: header.size }, this.#options.chunking);
    const fileHash = lengths.length > 1 ? runtime.createSha256() : undefined;
    this.toc.setChunkSize(size);
    const isLandmark = header.name === PREFETCH_LANDMARK || header.name === NO_PREFETCH_LANDMARK;
    let chunk = 0;
    let offset = 0;
    let left = 0;
    for await (const bytes of payload) {
      fileHash?.update(bytes);
      for (let used = 0; used < bytes.length; ) {
        if (left === 0) {
          if (chunk > 0) this.#endChunk(lengths[chunk - 1] as number);
          left = lengths[chunk] ?? 0;
          if (left === 0) throw tooMany(header);
          if (isLandmark || builder.memberBytes >= Math.max(1, this.#options.minMemberBytes)) {
            builder.cut();
            if (builder.length >= BATCH_BYTES) yield;
          }
          this.toc.addChunk({ member: builder.member, innerOffset: builder.memberBytes }, offset, left);
          builder.reserve(left);
          chunk += 1;
        }
        const part = bytes.subarray(used, used + left);
        builder.append(part);
        used += part.length;
        left -= part.length;
        offset += part.length;
      }
    }
    if (offset !== header.size)
      throw new EstargzError("INVALID_TAR", `${JSON.stringify(header.name)} has ${offset} bytes and not ${header.size} as announced`);
    this.#endChunk(lengths[chunk - 1] as number);
    if (fileHash !== undefined) this.toc.setFileDigest(fileHash.hex());
  }

  #endChunk(length: number): void {
    this.builder.hashLast(length);
  }
}

function tooMany(header: TarHeader): EstargzError {
  return new EstargzError("INVALID_TAR", `${JSON.stringify(header.name)} has more than the ${header.size} bytes that were announced`);
}

interface LayerTail {
  /** What ends the blob: TOC and footer. */
  readonly bytes: Uint8Array;
  /** What of it an unpacker sees. */
  readonly uncompressed: Uint8Array;
  readonly externalToc: Uint8Array | undefined;
  readonly zstdToc: { readonly packed: Uint8Array; readonly offset: number } | undefined;
}

function encodeTail(toc: Uint8Array, pipeline: CompressionPipeline, options: ResolvedWriteOptions): LayerTail {
  const nothing = new Uint8Array(0);
  if (options.compression === "zstd") {
    const packed = pipeline.compressOne(toc);
    const offset = pipeline.size + 8;
    const footer = encodeZstdFooter({ tocOffset: offset, tocPackedBytes: packed.length, tocBytes: toc.length });
    return {
      bytes: concatBytes([encodeSkippableFrame(packed), footer]),
      uncompressed: nothing,
      externalToc: undefined,
      zstdToc: { packed, offset },
    };
  }
  const tar = concatBytes([encodeTarHeader(bareHeader(TOC_NAME, toc.length)), toc, new Uint8Array(paddingOf(toc.length)), END_MARK]);
  const packed = pipeline.compressOne(tar);
  if (options.externalToc) return { bytes: encodeExternalFooter(), uncompressed: nothing, externalToc: packed, zstdToc: undefined };
  return {
    bytes: concatBytes([packed, encodeEstargzFooter(pipeline.size)]),
    uncompressed: tar,
    externalToc: undefined,
    zstdToc: undefined,
  };
}

function describe(
  toc: Uint8Array,
  tail: LayerTail,
  pipeline: CompressionPipeline,
  options: ResolvedWriteOptions,
  missingFiles: readonly string[],
): WrittenLayer {
  const { digest, diffId } = pipeline.digestsOfAll();
  const tocDigest = sha256Digest(runtime.sha256(toc));
  const annotations: Record<string, string> = {
    [TOC_DIGEST_ANNOTATION]: tocDigest,
    [UNCOMPRESSED_SIZE_ANNOTATION]: String(pipeline.uncompressedSize),
  };
  if (tail.zstdToc !== undefined) {
    const { packed, offset } = tail.zstdToc;
    annotations["io.containers.zstd-chunked.manifest-checksum"] = `sha256:${runtime.sha256(packed)}`;
    annotations["io.containers.zstd-chunked.manifest-position"] = `${offset}:${packed.length}:${toc.length}:1`;
  }
  const external = tail.externalToc;
  return {
    digest: sha256Digest(digest),
    size: pipeline.size,
    mediaType: MEDIA_TYPE[options.compression],
    diffId: sha256Digest(diffId),
    uncompressedSize: pipeline.uncompressedSize,
    tocDigest,
    tocBytes: toc,
    annotations,
    missingFiles,
    externalToc:
      external === undefined
        ? undefined
        : {
            bytes: external,
            digest: sha256Digest(runtime.sha256(external)),
            size: external.length,
            mediaType: MEDIA_TYPE.gzip,
            annotations: { [LAYER_DIGEST_ANNOTATION]: sha256Digest(digest) },
          },
  };
}

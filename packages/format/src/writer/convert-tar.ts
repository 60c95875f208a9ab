import { EstargzError } from "@estargz/interface";
import { runtime } from "#runtime";
import { NO_PREFETCH_LANDMARK, PREFETCH_LANDMARK } from "../reader/layer.ts";
import type { Spool } from "../runtime/runtime.ts";
import { encodeTarHeader } from "../tar/encode-tar.ts";
import { readTar, type TarItem } from "../tar/read-tar.ts";
import { cleanPath } from "../toc/path.ts";
import { TOC_NAME } from "../toc/unpack-toc.ts";
import { createOutput, type LayerOutput } from "./layer-output.ts";
import { landmarkItem, type WriterItem, writeItems } from "./layer-writer.ts";
import { planOrder, type TarOutline } from "./prioritize.ts";
import { openTarSource, type TarSource } from "./tar-source.ts";
import { type ResolvedWriteOptions, resolveWriteOptions, type WriteLayerOptions } from "./write-options.ts";

/**
 * Turns a tar into a layer that can be read in parts. In one pass with bounded memory; with prioritised files the tar is kept in a
 * temporary file in between (in memory outside of Node).
 *
 * @param source - A plain, gzip or zstd tar of any flavour.
 * @returns The blob as it is written, and what is known of it afterwards.
 * @throws {@link EstargzError} from `bytes` and `result`: `INVALID_TAR`, `UNSUPPORTED` (names that aren't UTF-8; in lossless mode whatever
 * would have to change), `NOT_FOUND` for prioritised files that don't exist, `INVALID_COMPRESSION`. Aborts with the signal's reason.
 *
 * @example
 * ```ts
 * const layer = convertTar(createReadStream("layer.tar"), { prioritizedFiles: ["usr/bin/node"] });
 * await pipeline(layer.bytes, createWriteStream("layer.esgz"));
 * const { digest, annotations } = await layer.result;
 * ```
 */
export function convertTar(source: TarSource, options: WriteLayerOptions = {}): LayerOutput {
  const resolved = resolveWriteOptions(options);
  const missing: string[] = [];
  return createOutput(() => writeItems(layerItems(source, resolved, missing), resolved, () => missing));
}

function layerItems(source: TarSource, options: ResolvedWriteOptions, missing: string[]): AsyncIterable<WriterItem> {
  const tar = openTarSource(source, options.signal);
  if (options.lossless) return losslessItems(tar);
  return options.prioritizedFiles.length > 0 ? sortedItems(tar, options, missing) : streamedItems(tar);
}

/** Names that the writer makes itself. */
function isReserved(name: string): boolean {
  const path = cleanPath(name);
  return path === TOC_NAME || path === PREFETCH_LANDMARK || path === NO_PREFETCH_LANDMARK;
}

async function* streamedItems(tar: AsyncIterable<Uint8Array>): AsyncIterable<WriterItem> {
  yield landmarkItem(false);
  for await (const item of readTar(tar)) {
    if (item.kind === "entry" && !isReserved(item.header.name)) yield toWriterItem(item);
  }
}

function toWriterItem(item: Extract<TarItem, { kind: "entry" }>): WriterItem {
  const { header, payload } = item;
  return { kind: "entry", header, payload, head: item.needsNewHead ? encodeTarHeader(header) : item.head };
}

async function* losslessItems(tar: AsyncIterable<Uint8Array>): AsyncIterable<WriterItem> {
  for await (const item of readTar(tar)) {
    if (item.kind === "other") yield item;
    else if (item.kind === "end") for await (const bytes of item.bytes) yield { kind: "other", bytes };
    else {
      const { name, size } = item.header;
      if (cleanPath(name) === TOC_NAME)
        throw new EstargzError("UNSUPPORTED", `the tar has a ${TOC_NAME} already; only without lossless it can be replaced`);
      if (item.needsNewHead && size > 0) {
        throw new EstargzError(
          "UNSUPPORTED",
          `${JSON.stringify(name)} is sparse, of an odd type or has global headers; only without lossless it can be written anew`,
        );
      }
      yield { kind: "entry", header: item.header, head: item.head, payload: item.payload };
    }
  }
}

/** Keeps the contents, and gives the entries in their new order. */
async function* sortedItems(tar: AsyncIterable<Uint8Array>, options: ResolvedWriteOptions, missing: string[]): AsyncIterable<WriterItem> {
  const spool = runtime.createSpool();
  try {
    const outlines: TarOutline[] = [];
    let size = 0;
    for await (const item of readTar(tar)) {
      if (item.kind !== "entry" || isReserved(item.header.name)) continue;
      const { header } = item;
      for await (const bytes of item.payload) await spool.write(bytes);
      outlines.push({
        path: cleanPath(header.name),
        linkPath: header.kind === "hardlink" ? cleanPath(header.linkName) : undefined,
        header,
        head: item.needsNewHead ? encodeTarHeader(header) : item.head,
        offset: size,
      });
      size += header.size;
    }
    const plan = planOrder(outlines, options.prioritizedFiles, options.allowMissingFiles);
    missing.push(...plan.missing);
    for (const outline of plan.first) yield fromSpool(outline, spool);
    yield landmarkItem(true);
    for (const outline of plan.rest) yield fromSpool(outline, spool);
  } finally {
    await spool.close();
  }
}

function fromSpool({ header, head, offset }: TarOutline, spool: Spool): WriterItem {
  return { kind: "entry", header, head, payload: readSpool(spool, offset, header.size) };
}

const PIECE_BYTES = 1 << 18;

async function* readSpool(spool: Spool, offset: number, length: number): AsyncIterable<Uint8Array> {
  for (let at = 0; at < length; at += PIECE_BYTES) yield await spool.read(offset + at, Math.min(PIECE_BYTES, length - at));
}

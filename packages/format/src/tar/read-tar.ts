import { concatBytes } from "../bytes.ts";
import { ByteQueue } from "./byte-queue.ts";
import { type PaxRecords, parsePax } from "./pax.ts";
import { expandSparse, parsePaxSparse, paxSparseVersion, readGnuSparse, readPaxSparse1, type SparseMap } from "./sparse.ts";
import { composeHeader, type TarHeader } from "./tar-entry.ts";
import { BLOCK_BYTES, invalidTar, isZeroBlock, parseRawHeader, type RawHeader } from "./tar-header.ts";

/** One entry of a tar, or what else stands between entries. */
export type TarItem =
  | {
      readonly kind: "entry";
      readonly header: TarHeader;
      /** The blocks of its headers as they stand in the tar: PAX, long names, sparse map, header. */
      readonly head: Uint8Array;
      /** Whether `head` alone doesn't say what `header` says: sparse, global records, odd type flags. */
      readonly needsNewHead: boolean;
      /** Its bytes, holes included. To be consumed before the next item is asked for, or not at all. */
      readonly payload: AsyncIterable<Uint8Array>;
      /** Offset of `head` in the tar. */
      readonly position: number;
    }
  /** Bytes that are no file: a global header, a volume label. Only of use for keeping a tar as it is. */
  | { readonly kind: "other"; readonly bytes: Uint8Array }
  /** The end mark and what follows it. */
  | { readonly kind: "end"; readonly bytes: AsyncIterable<Uint8Array> };

/** PAX and long-name entries above this are refused, as in Go. */
const MAX_META_BYTES = 1 << 20;

/**
 * Reads a tar of any flavour (v7, ustar, pax, GNU, star) entry by entry, keeping its exact bytes.
 *
 * @throws `INVALID_TAR` for damage, `UNSUPPORTED` for names that aren't UTF-8 and unknown types.
 */
export async function* readTar(source: AsyncIterable<Uint8Array>): AsyncIterable<TarItem> {
  const queue = new ByteQueue(source);
  let global: PaxRecords = new Map();
  try {
    for (;;) {
      const meta = await readMeta(queue);
      if (meta === undefined) return;
      if (meta.end) {
        yield { kind: "end", bytes: rest(queue, meta.block) };
        return;
      }
      if (meta.raw.type === "g") {
        global = merge(global, parsePax(meta.content, meta.position));
        yield { kind: "other", bytes: concatBytes(meta.blocks) };
        continue;
      }
      yield* readEntry(queue, meta, global);
    }
  } finally {
    await queue.close();
  }
}

interface Meta {
  readonly end: false;
  readonly position: number;
  readonly blocks: Uint8Array[];
  readonly block: Uint8Array;
  readonly raw: RawHeader;
  readonly pax: PaxRecords;
  readonly name: Uint8Array | undefined;
  readonly linkName: Uint8Array | undefined;
  /** Content of a global header. */
  readonly content: Uint8Array;
}

/** Reads headers up to and including that of a file, or a global one. */
async function readMeta(queue: ByteQueue): Promise<Meta | { end: true; block: Uint8Array } | undefined> {
  const position = queue.position;
  const blocks: Uint8Array[] = [];
  let pax: PaxRecords = new Map();
  let name: Uint8Array | undefined;
  let linkName: Uint8Array | undefined;
  for (;;) {
    const at = queue.position;
    const view = await queue.exactly(BLOCK_BYTES);
    if (view === undefined) {
      if (blocks.length > 0) throw invalidTar("it ends after an extended header", at);
      return undefined;
    }
    const block = view.slice();
    if (isZeroBlock(block)) {
      if (blocks.length > 0) throw invalidTar("it ends after an extended header", at);
      return { end: true, block };
    }
    const raw = parseRawHeader(block, at);
    blocks.push(block);
    if (raw.type !== "x" && raw.type !== "L" && raw.type !== "K" && raw.type !== "g") {
      return { end: false, position, blocks, block, raw, pax, name, linkName, content: new Uint8Array(0) };
    }
    const content = await readContent(queue, raw, blocks);
    if (raw.type === "g") {
      if (blocks.length > 2) throw invalidTar("a global header stands between an extended header and its file", at);
      return { end: false, position, blocks, block, raw, pax, name, linkName, content };
    }
    if (raw.type === "x") pax = parsePax(content, at);
    else if (raw.type === "L") name = untilNul(content);
    else linkName = untilNul(content);
  }
}

async function readContent(queue: ByteQueue, raw: RawHeader, blocks: Uint8Array[]): Promise<Uint8Array> {
  if (raw.size < 0 || raw.size > MAX_META_BYTES) throw invalidTar(`an extended header of ${raw.size} bytes`, queue.position);
  if (raw.size === 0) return new Uint8Array(0);
  const padded = Math.ceil(raw.size / BLOCK_BYTES) * BLOCK_BYTES;
  const bytes = await queue.exactly(padded);
  if (bytes === undefined) throw invalidTar("it ends inside of an extended header", queue.position);
  const copy = bytes.slice();
  blocks.push(copy);
  return copy.subarray(0, raw.size);
}

function untilNul(bytes: Uint8Array): Uint8Array {
  const end = bytes.indexOf(0);
  return end < 0 ? bytes : bytes.subarray(0, end);
}

function merge(global: PaxRecords, local: PaxRecords): PaxRecords {
  return new Map([...global, ...local]);
}

async function* readEntry(queue: ByteQueue, meta: Meta, global: PaxRecords): AsyncIterable<TarItem> {
  const { raw, position, blocks } = meta;
  const relevant = [...global.keys()].some((key) => key !== "comment");
  const pax = relevant ? merge(global, meta.pax) : meta.pax;
  const header = composeHeader(raw, { name: meta.name, linkName: meta.linkName }, pax, position);
  if (header.size < 0) throw invalidTar("an entry has a negative size", position);
  let stored = header.size;
  let sparse: SparseMap | undefined;
  if (raw.type === "S") {
    const gnu = await readGnuSparse(meta.block, queue);
    sparse = gnu.map;
    blocks.push(...gnu.blocks);
  } else if (header.kind === "reg" && paxSparseVersion(pax) === "payload") {
    const inPayload = await readPaxSparse1(pax, header.size, queue);
    sparse = inPayload.map;
    stored -= inPayload.mapBytes;
  } else if (header.kind === "reg" && paxSparseVersion(pax) === "map") sparse = parsePaxSparse(pax, raw, position);
  const padding = (BLOCK_BYTES - (stored % BLOCK_BYTES)) % BLOCK_BYTES;
  const payload = new Payload(queue, stored, padding);
  if (header.kind === "skip") {
    yield { kind: "other", bytes: concatBytes(blocks) };
  } else {
    const bytes = sparse === undefined ? payload.bytes() : expandSparse(payload.bytes(), sparse, position);
    yield {
      kind: "entry",
      header: sparse === undefined ? header : { ...header, size: sparse.realSize },
      head: blocks.length === 1 ? (blocks[0] as Uint8Array) : concatBytes(blocks),
      needsNewHead: sparse !== undefined || relevant || raw.type === "7",
      payload: bytes,
      position,
    };
  }
  await payload.skipRest();
}

/** The stored bytes of an entry, and the padding behind them. */
class Payload {
  readonly #queue: ByteQueue;
  readonly #end: number;
  readonly #padding: number;

  constructor(queue: ByteQueue, length: number, padding: number) {
    this.#queue = queue;
    this.#end = queue.position + length;
    this.#padding = padding;
  }

  async *bytes(): AsyncIterable<Uint8Array> {
    const queue = this.#queue;
    while (queue.position < this.#end) {
      const left = this.#end - queue.position;
      const piece = queue.ready(left) ?? (await queue.some(left));
      if (piece === undefined) throw invalidTar("it ends inside of a file", queue.position);
      yield piece;
    }
  }

  async skipRest(): Promise<void> {
    for await (const _skipped of this.bytes());
    for (let left = this.#padding; left > 0; ) {
      const piece = await this.#queue.some(left);
      if (piece === undefined) throw invalidTar("it ends inside of a file's padding", this.#queue.position);
      left -= piece.length;
    }
  }
}

async function* rest(queue: ByteQueue, block: Uint8Array): AsyncIterable<Uint8Array> {
  yield block;
  for (;;) {
    const piece = await queue.some(1 << 16);
    if (piece === undefined) return;
    yield piece;
  }
}

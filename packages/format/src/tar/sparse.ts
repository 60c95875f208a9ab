import type { ByteQueue } from "./byte-queue.ts";
import type { PaxRecords } from "./pax.ts";
import { paxInteger } from "./tar-entry.ts";
import { BLOCK_BYTES, invalidTar, parseNumber, type RawHeader } from "./tar-header.ts";

/** Where the stored bytes of a sparse file belong. */
export interface SparseMap {
  readonly realSize: number;
  readonly pieces: readonly { readonly offset: number; readonly length: number }[];
}

const MAX_PIECES = 1 << 20;
/** Largest sparse file that is expanded: 1 TiB. */
const MAX_REAL_SIZE = 2 ** 40;

/** Map of a GNU sparse entry (type S): four pieces in the header, more in blocks that follow. Also gives those blocks. */
export async function readGnuSparse(block: Uint8Array, queue: ByteQueue): Promise<{ map: SparseMap; blocks: Uint8Array[] }> {
  const position = queue.position;
  const pieces: SparseMap["pieces"][number][] = [];
  const blocks: Uint8Array[] = [];
  const take = (bytes: Uint8Array, start: number, count: number): void => {
    for (let i = 0; i < count; i += 1) {
      const at = start + i * 24;
      if (bytes[at] === 0) return;
      pieces.push({
        offset: parseNumber(bytes, at, 12, "sparse map", position),
        length: parseNumber(bytes, at + 12, 12, "sparse map", position),
      });
    }
  };
  take(block, 386, 4);
  let extended = block[482] !== 0;
  while (extended) {
    const next = await queue.exactly(BLOCK_BYTES);
    if (next === undefined || pieces.length > MAX_PIECES) throw invalidTar("a sparse map has no end", position);
    blocks.push(next.slice());
    take(next, 0, 21);
    extended = next[504] !== 0;
  }
  return { map: checkMap({ realSize: parseNumber(block, 483, 12, "size of a sparse file", position), pieces }, position), blocks };
}

/** Whether PAX records describe a sparse file, and how: with its map in a record (0.0, 0.1) or in front of its bytes (1.0). */
export function paxSparseVersion(pax: PaxRecords): "map" | "payload" | undefined {
  const text = (key: string): string => String.fromCharCode(...(pax.get(key) ?? []).slice(0, 8));
  if (text("GNU.sparse.major") === "1" && text("GNU.sparse.minor") === "0") return "payload";
  return pax.has("GNU.sparse.map") ? "map" : undefined;
}

/** Map of a sparse file of PAX format 0.0 or 0.1. */
export function parsePaxSparse(pax: PaxRecords, raw: RawHeader, position: number): SparseMap {
  const numbers = asciiText(pax.get("GNU.sparse.map") ?? new Uint8Array(0)).split(",");
  return checkMap({ realSize: paxInteger(pax, "GNU.sparse.size", position) ?? raw.size, pieces: pairUp(numbers, position) }, position);
}

/** Map of a sparse file of PAX format 1.0: decimal lines in front of the bytes, filled up to a block. Also gives its length. */
export async function readPaxSparse1(pax: PaxRecords, size: number, queue: ByteQueue): Promise<{ map: SparseMap; mapBytes: number }> {
  const position = queue.position;
  const blocks: string[] = [];
  let lines = 0;
  let wanted = Number.POSITIVE_INFINITY;
  for (let mapBytes = BLOCK_BYTES; ; mapBytes += BLOCK_BYTES) {
    const block = mapBytes > size || mapBytes > MAX_PIECES * 16 ? undefined : await queue.exactly(BLOCK_BYTES);
    if (block === undefined) throw invalidTar("a sparse map has no end", position);
    blocks.push(asciiText(block));
    for (const byte of block) if (byte === 0x0a) lines += 1;
    if (wanted === Number.POSITIVE_INFINITY && lines > 0) wanted = 1 + 2 * countOf(blocks.join(""), position);
    if (lines < wanted) continue;
    const pieces = pairUp(blocks.join("").split("\n").slice(1, wanted), position);
    return { map: checkMap({ realSize: paxInteger(pax, "GNU.sparse.realsize", position) ?? 0, pieces }, position), mapBytes };
  }
}

/** The number in the first line of a map. */
function countOf(text: string, position: number): number {
  const line = text.slice(0, text.indexOf("\n"));
  if (!/^\d{1,8}$/.test(line)) throw invalidTar("a sparse map can't be read", position);
  return Number(line);
}

function asciiText(bytes: Uint8Array): string {
  let text = "";
  for (let i = 0; i < bytes.length; i += 4096) text += String.fromCharCode(...bytes.subarray(i, i + 4096));
  return text;
}

function pairUp(numbers: readonly string[], position: number): SparseMap["pieces"] {
  if (numbers.length === 1 && numbers[0] === "") return [];
  if (numbers.length % 2 !== 0 || numbers.length > 2 * MAX_PIECES || numbers.some((text) => !/^\d{1,15}$/.test(text))) {
    throw invalidTar("a sparse map can't be read", position);
  }
  const pieces: { offset: number; length: number }[] = [];
  for (let i = 0; i < numbers.length; i += 2) pieces.push({ offset: Number(numbers[i]), length: Number(numbers[i + 1]) });
  return pieces;
}

function checkMap(map: SparseMap, position: number): SparseMap {
  if (map.realSize < 0 || map.realSize > MAX_REAL_SIZE)
    throw invalidTar(`a sparse file of ${map.realSize} bytes is beyond what is expanded`, position);
  let end = 0;
  for (const { offset, length } of map.pieces) {
    if (offset < end || length < 0 || offset + length > map.realSize)
      throw invalidTar("a sparse map overlaps or reaches beyond its file", position);
    end = offset + length;
  }
  return map;
}

const ZEROS = new Uint8Array(1 << 16);

/** Puts the holes back. Throws `INVALID_TAR` if there are fewer or more stored bytes than the map says. */
export async function* expandSparse(stored: AsyncIterable<Uint8Array>, map: SparseMap, position: number): AsyncIterable<Uint8Array> {
  const pieces = map.pieces.filter((piece) => piece.length > 0);
  let at = 0;
  let index = 0;
  for await (const bytes of stored) {
    for (let used = 0; used < bytes.length; ) {
      const piece = pieces[index];
      if (piece === undefined) throw invalidTar("a sparse file has more bytes than its map says", position);
      yield* zeros(piece.offset - at);
      at = Math.max(at, piece.offset);
      const part = bytes.subarray(used, used + piece.offset + piece.length - at);
      yield part;
      used += part.length;
      at += part.length;
      if (at === piece.offset + piece.length) index += 1;
    }
  }
  if (index < pieces.length) throw invalidTar("a sparse file has fewer bytes than its map says", position);
  yield* zeros(map.realSize - at);
}

function* zeros(length: number): Iterable<Uint8Array> {
  for (let left = length; left > 0; left -= ZEROS.length) yield left >= ZEROS.length ? ZEROS : ZEROS.subarray(0, left);
}

import { type Codec, EstargzError, isEstargzError } from "@estargz/interface";
import { checkLimit, type LayerLimits } from "../limits.ts";

/** Name of the tar entry that holds the TOC. */
export const TOC_NAME = "stargz.index.json";

const BLOCK = 512;

/**
 * Takes the TOC's JSON out of a gzip member with a tar entry `stargz.index.json`.
 *
 * @throws {@link EstargzError} `INVALID_TOC` for anything else, `INVALID_COMPRESSION`, `LIMIT_EXCEEDED`.
 */
export function unpackGzipToc(packed: Uint8Array, limits: LayerLimits, gzip: Codec): Uint8Array {
  checkLimit("maxTocPackedBytes", packed.length, limits, "size of the compressed TOC");
  const header = decodeHead(packed, gzip);
  const name = textAt(header, 0, 100);
  if (name !== TOC_NAME)
    throw new EstargzError("INVALID_TOC", `where the TOC should be stands ${JSON.stringify(name)} and not ${TOC_NAME}`);
  if (header[156] !== 0 && header[156] !== 0x30) throw new EstargzError("INVALID_TOC", "the TOC's tar entry is not a regular file");
  const text = textAt(header, 124, 12).trim();
  if (!/^[0-7]{1,12}$/.test(text)) throw new EstargzError("INVALID_TOC", "the size of the TOC's tar entry is not an octal number");
  const size = Number.parseInt(text, 8);
  checkSizes(packed.length, size, limits);
  return gzip.decode(packed, BLOCK + size).subarray(BLOCK);
}

function decodeHead(packed: Uint8Array, gzip: Codec): Uint8Array {
  try {
    return gzip.decode(packed, BLOCK);
  } catch (error) {
    if (!isEstargzError(error, "INVALID_COMPRESSION")) throw error;
    throw new EstargzError("INVALID_TOC", "there is no gzip member with a TOC where the footer points to", { cause: error });
  }
}

/** Decompresses the TOC of a zstd:chunked layer. */
export function unpackZstdToc(packed: Uint8Array, size: number, limits: LayerLimits, zstd: Codec): Uint8Array {
  checkSizes(packed.length, size, limits);
  return zstd.decode(packed, size);
}

function checkSizes(packedBytes: number, bytes: number, limits: LayerLimits): void {
  checkLimit("maxTocBytes", bytes, limits, "size of the TOC");
  checkLimit("maxTocRatio", Math.ceil(bytes / Math.max(1, packedBytes)), limits, "compression ratio of the TOC");
}

function textAt(bytes: Uint8Array, offset: number, length: number): string {
  let text = "";
  for (let i = offset; i < offset + length && bytes[i] !== 0; i += 1) text += String.fromCharCode(bytes[i] as number);
  return text;
}

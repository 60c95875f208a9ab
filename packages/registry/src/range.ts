import type { ByteRange } from "@estargz/interface";

/** A parsed Content-Range (RFC 9110, 14.4). */
export interface ContentRange {
  readonly offset: number;
  readonly length: number;
  /** Size of the whole, `undefined` for `*`. */
  readonly total: number | undefined;
}

const CONTENT_RANGE = /^\s*bytes\s*[ =]\s*(\d{1,16})\s*-\s*(\d{1,16})\s*\/\s*(\d{1,16}|\*)\s*$/i;
const UNSATISFIED = /^\s*bytes\s*[ =]\s*\*\s*\/\s*(\d{1,16})\s*$/i;

/** Parses a Content-Range of bytes; `undefined` for anything malformed, unsafe or contradictory. */
export function parseContentRange(text: string | undefined): ContentRange | undefined {
  const match = CONTENT_RANGE.exec(text ?? "");
  if (match === null) return undefined;
  const first = Number(match[1]);
  const last = Number(match[2]);
  const total = match[3] === "*" ? undefined : Number(match[3]);
  if (!Number.isSafeInteger(first) || !Number.isSafeInteger(last) || last < first) return undefined;
  if (total !== undefined && (!Number.isSafeInteger(total) || last >= total)) return undefined;
  return { offset: first, length: last - first + 1, total };
}

/** The size that a 416 answer tells: Content-Range with a star for the range, then the size. */
export function parseUnsatisfiedRange(text: string | undefined): number | undefined {
  const match = UNSATISFIED.exec(text ?? "");
  const size = Number(match?.[1]);
  return match !== null && Number.isSafeInteger(size) ? size : undefined;
}

/** Writes a Range header for ranges of at least one byte each. */
export function formatRange(ranges: readonly ByteRange[]): string {
  return `bytes=${ranges.map(({ offset, length }) => `${offset}-${offset + length - 1}`).join(",")}`;
}

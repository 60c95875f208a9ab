import type { StoreBehaviour } from "./fake-registry-profiles.ts";

interface Range {
  readonly first: number;
  readonly last: number;
}

/** An answer to a request for a blob. */
export interface RangeAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
}

/** Parses a Range field against a size; `undefined`: not a range of bytes, to be ignored. */
function parse(header: string, size: number): { readonly ranges: readonly Range[]; readonly suffix: boolean } | undefined {
  const match = /^bytes=(.+)$/.exec(header);
  if (match?.[1] === undefined) return undefined;
  const ranges: Range[] = [];
  let suffix = false;
  for (const part of match[1].split(",")) {
    const [, from = "", to = ""] = /^\s*(\d*)-(\d*)\s*$/.exec(part) ?? [];
    if (from === "" && to === "") return undefined;
    if (from === "") {
      suffix = true;
      if (Number(to) > 0) ranges.push({ first: Math.max(0, size - Number(to)), last: size - 1 });
    } else if (Number(from) < size) ranges.push({ first: Number(from), last: to === "" ? size - 1 : Math.min(size - 1, Number(to)) });
  }
  return { ranges: ranges.filter(({ first, last }) => first <= last), suffix };
}

const BOUNDARY = "fake_boundary_1a2b3c";

function multipart(blob: Uint8Array, ranges: readonly Range[]): RangeAnswer {
  const parts = ranges.flatMap(({ first, last }) => [
    Buffer.from(
      `\r\n--${BOUNDARY}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes ${first}-${last}/${blob.length}\r\n\r\n`,
    ),
    blob.subarray(first, last + 1),
  ]);
  const body = Buffer.concat([...parts, Buffer.from(`\r\n--${BOUNDARY}--\r\n`)]);
  return { status: 206, headers: { "Content-Type": `multipart/byteranges; boundary=${BOUNDARY}` }, body };
}

function refusal(status: number, size: number): RangeAnswer {
  return { status, headers: status === 416 ? { "Content-Range": `bytes */${size}` } : {}, body: Buffer.from("InvalidRange") };
}

/** Answers a GET of a blob as a store of some kind does. */
export function answerRange(blob: Uint8Array, header: string | undefined, store: StoreBehaviour, cold: boolean): RangeAnswer {
  const type: Record<string, string> = store.omitsContentType === true ? {} : { "Content-Type": "application/octet-stream" };
  const encoding: Record<string, string> = store.labelsGzip === true ? { "Content-Encoding": "gzip" } : {};
  const whole: RangeAnswer = { status: 200, headers: { ...type, ...encoding, "Accept-Ranges": "bytes" }, body: blob };
  const parsed = header === undefined ? undefined : parse(header, blob.length);
  if (parsed === undefined || store.ignoresRanges === true || (cold && store.wholeWhenCold === true)) return whole;
  const { ranges, suffix } = parsed;
  const [range] = ranges;
  if (suffix && store.suffix === "whole") return whole;
  if ((suffix && store.suffix === "refuse-416") || range === undefined) return refusal(416, blob.length);
  if (ranges.length > 1) {
    if (store.several === "multipart") return multipart(blob, ranges);
    if (store.several === "whole") return whole;
    if (store.several === "refuse-400") return refusal(400, blob.length);
    if (store.several === "refuse-416") return refusal(416, blob.length);
  }
  const last = store.maxRangeBytes === undefined ? range.last : Math.min(range.last, range.first + store.maxRangeBytes - 1);
  const total = store.hidesTotal === true ? "*" : String(blob.length);
  return {
    status: 206,
    headers: { ...type, ...encoding, "Content-Range": `bytes ${range.first}-${last}/${total}` },
    body: blob.subarray(range.first, last + 1),
  };
}

import { type ByteRange, EstargzError } from "@estargz/interface";
import { type BodySink, headerOf, type ResponseHead } from "./http/exchange.ts";
import { MultipartParser, multipartBoundary } from "./multipart.ts";
import { parseContentRange } from "./range.ts";

/** What a request for ranges of a blob wants. */
export interface RangeWanted {
  /** Disjoint, by offset, each of at least one byte. */
  readonly ranges: readonly ByteRange[];
  /** Size of the blob if known. */
  readonly size: number | undefined;
  /** Most bytes that are read and thrown away when a server ignores the range. */
  readonly maxSkipBytes: number;
  /** For messages. */
  readonly host: string;
  /** The blob's size was learned. */
  readonly learned: (size: number) => void;
  /** Bytes arrived; they may be more than was wanted. `transient` ones are valid during the call only. */
  readonly bytes: (position: number, bytes: Buffer, transient: boolean) => void;
  /** Where the bytes from `position` on are wanted; `undefined`: nowhere in particular. What is put there is told by `bytes`. */
  readonly target?: (position: number) => Uint8Array | undefined;
  /** Which kind of answer came. */
  readonly answered?: (kind: "partial" | "multipart" | "whole") => void;
}

/** Detail of an error that knowing the blob's size would help against. */
export const SIZE_WANTED = "sizeWanted";

function bad(wanted: RangeWanted, why: string): EstargzError {
  return new EstargzError("INVALID_RESPONSE", `${wanted.host} ${why}`, { details: { host: wanted.host } });
}

/** Compares a size that a server told with the one that is known. @throws `INVALID_RESPONSE` */
function checkTotal(wanted: RangeWanted, total: number | undefined): void {
  if (total === undefined) return;
  if (wanted.size === undefined) wanted.learned(total);
  else if (wanted.size !== total) throw bad(wanted, `has a blob of ${total} bytes where ${wanted.size} are expected`);
}

/**
 * Bytes that were encoded on the way are not the blob's. But some stores label a .tar.gz as "gzip encoded" though they
 * send it as it is: told by a total that is the blob's size.
 */
function checkEncoding(wanted: RangeWanted, head: ResponseHead, total: number | undefined): void {
  const encoding = headerOf(head, "content-encoding")?.trim().toLowerCase() ?? "identity";
  if (encoding === "identity" || encoding === "") return;
  if (wanted.size === undefined) {
    throw new EstargzError("INVALID_RESPONSE", `${wanted.host} says that the blob is encoded, and its size is not known to tell whether`, {
      details: { host: wanted.host, [SIZE_WANTED]: true },
    });
  }
  if (total !== wanted.size) throw bad(wanted, `encoded the blob as ${encoding.slice(0, 20)} though identity was asked for`);
}

/** The first wanted byte and the one after the last. */
function bounds(ranges: readonly ByteRange[]): { readonly start: number; readonly end: number } {
  const first = ranges[0];
  const last = ranges.at(-1);
  if (first === undefined || last === undefined) throw new EstargzError("INVALID_ARGUMENT", "no range is wanted");
  return { start: first.offset, end: last.offset + last.length };
}

/**
 * Takes the answer to a request for ranges, of whichever kind the server chose: 206 with one part, 206 with several,
 * or 200 with the whole blob, of which what is wanted is taken. Gives `undefined` for other statuses.
 *
 * @throws `INVALID_RESPONSE` when the answer is not about the bytes asked for, `RANGE_UNSUPPORTED` when too much of a
 * whole blob would have to be read for them.
 */
export function acceptRanges(wanted: RangeWanted, head: ResponseHead): BodySink<undefined> | undefined {
  if (head.status === 200) return wholeSink(wanted, head);
  if (head.status !== 206) return undefined;
  const boundary = multipartBoundary(headerOf(head, "content-type"));
  return boundary === undefined ? partSink(wanted, head) : multipartSink(wanted, boundary);
}

function wholeSink(wanted: RangeWanted, head: ResponseHead): BodySink<undefined> {
  const told = headerOf(head, "content-length");
  const total = told !== undefined && /^\d{1,16}$/.test(told) ? Number(told) : undefined;
  checkEncoding(wanted, head, total);
  checkTotal(wanted, total);
  const { start, end } = bounds(wanted.ranges);
  const needed = wanted.ranges.reduce((sum, { length }) => sum + length, 0);
  if (end - needed > wanted.maxSkipBytes) {
    throw new EstargzError(
      "RANGE_UNSUPPORTED",
      `${wanted.host} sends the whole blob instead of a range, and ${start} bytes come before it`,
      {
        details: { host: wanted.host, offset: start },
      },
    );
  }
  wanted.answered?.("whole");
  let position = 0;
  return {
    write(bytes, transient = false) {
      wanted.bytes(position, bytes, transient);
      position += bytes.length;
      return position >= end;
    },
    end: () => undefined,
  };
}

function partSink(wanted: RangeWanted, head: ResponseHead): BodySink<undefined> {
  const range = parseContentRange(headerOf(head, "content-range"));
  if (range === undefined) throw bad(wanted, "answered a range without saying which");
  const announced = headerOf(head, "content-length");
  if (announced !== undefined && Number(announced) !== range.length) {
    throw bad(wanted, `announced ${announced.slice(0, 16)} bytes for a range of ${range.length}`);
  }
  checkEncoding(wanted, head, announced === undefined ? undefined : range.total);
  checkTotal(wanted, range.total);
  const { start, end } = bounds(wanted.ranges);
  if (range.offset > start || range.offset + range.length <= start || range.offset < start - wanted.maxSkipBytes) {
    throw bad(wanted, `answered with bytes from ${range.offset} where they were asked for from ${start}`);
  }
  wanted.answered?.("partial");
  let position = range.offset;
  const last = range.offset + range.length;
  let target: Uint8Array | undefined;
  const write = (bytes: Buffer, transient = false): boolean => {
    if (position + bytes.length > last) throw bad(wanted, "sent more bytes than it had announced");
    wanted.bytes(position, bytes, transient);
    position += bytes.length;
    return position >= end && position < last;
  };
  return {
    write,
    target: () => {
      target = wanted.target?.(position);
      return target;
    },
    advance: (length) => (target === undefined ? false : write(Buffer.from(target.buffer, target.byteOffset, length))),
    end: () => undefined,
  };
}

function multipartSink(wanted: RangeWanted, boundary: string): BodySink<undefined> {
  wanted.answered?.("multipart");
  const parser = new MultipartParser(boundary, {
    part: ({ total }) => checkTotal(wanted, total),
    bytes: (position, bytes) => wanted.bytes(position, bytes as Buffer, true),
  });
  return {
    write(bytes) {
      parser.write(bytes);
      return false;
    },
    end: () => undefined,
  };
}

import { EstargzError } from "@estargz/interface";
import { type ContentRange, parseContentRange } from "./range.ts";

/** Takes the parts of a multipart/byteranges answer. */
export interface PartHandler {
  /** Bytes of a part, in order; `position` is their place in the blob. */
  bytes(position: number, bytes: Uint8Array): void;
  /** A part begins. */
  part?(range: ContentRange): void;
}

const MAX_PART_HEADER_BYTES = 8 * 1024;
const BOUNDARY = /;\s*boundary\s*=\s*(?:"([^"]{1,200})"|([^\s;,"]{1,200}))/i;

/** The boundary of a `multipart/byteranges` Content-Type; `undefined` for any other. */
export function multipartBoundary(contentType: string | undefined): string | undefined {
  if (contentType === undefined || !/^\s*multipart\/(?:byteranges|x-byteranges)\s*;/i.test(contentType)) return undefined;
  const match = BOUNDARY.exec(contentType);
  return match?.[1] ?? match?.[2];
}

function malformed(why: string): EstargzError {
  return new EstargzError("INVALID_RESPONSE", `the answer to a request for several ranges is malformed: ${why}`);
}

/**
 * Parses multipart/byteranges (RFC 9110, 14.6) as it arrives. A part's length comes from its Content-Range, so that its
 * bytes are never searched for the boundary and are handed on without being copied.
 */
export class MultipartParser {
  readonly #delimiter: Buffer;
  readonly #handler: PartHandler;
  #header: Buffer = Buffer.alloc(0);
  #position = 0;
  #left = 0;
  #finished = false;

  constructor(boundary: string, handler: PartHandler) {
    this.#delimiter = Buffer.from(`--${boundary}`, "latin1");
    this.#handler = handler;
  }

  /** Whether the closing delimiter was seen. */
  get finished(): boolean {
    return this.#finished;
  }

  /** @throws `INVALID_RESPONSE` for anything but well-formed parts. */
  write(bytes: Uint8Array): void {
    let at = 0;
    while (at < bytes.length && !this.#finished) {
      if (this.#left > 0) {
        const take = Math.min(this.#left, bytes.length - at);
        this.#handler.bytes(this.#position, bytes.subarray(at, at + take));
        this.#position += take;
        this.#left -= take;
        at += take;
      } else {
        at = this.#readHeader(bytes, at);
      }
    }
  }

  /** Collects a part's delimiter and header fields; gives the place in `bytes` after them. */
  #readHeader(bytes: Uint8Array, at: number): number {
    const before = this.#header.length;
    const taken = bytes.subarray(at, at + MAX_PART_HEADER_BYTES - before);
    const joined = Buffer.concat([this.#header, taken]);
    const start = joined.indexOf(this.#delimiter);
    if (start >= 0) {
      const after = start + this.#delimiter.length;
      if (joined.subarray(after, after + 2).toString("latin1") === "--") {
        this.#finished = true;
        return bytes.length;
      }
      const end = this.#endOfFields(joined, after);
      if (end !== undefined) {
        this.#begin(joined.subarray(after, end.at).toString("latin1"));
        this.#header = Buffer.alloc(0);
        return at + end.at + end.length - before;
      }
    }
    if (joined.length >= MAX_PART_HEADER_BYTES) throw malformed("a part's header is too long or its boundary is missing");
    this.#header = joined;
    return at + taken.length;
  }

  #endOfFields(joined: Buffer, from: number): { readonly at: number; readonly length: number } | undefined {
    const crlf = joined.indexOf("\r\n\r\n", from, "latin1");
    const lf = joined.indexOf("\n\n", from, "latin1");
    if (crlf >= 0 && (lf < 0 || crlf < lf)) return { at: crlf, length: 4 };
    return lf >= 0 ? { at: lf, length: 2 } : undefined;
  }

  #begin(fields: string): void {
    const line = fields.split(/\r?\n/).find((field) => /^\s*content-range\s*:/i.test(field));
    const range = parseContentRange(line?.slice(line.indexOf(":") + 1));
    if (range === undefined) throw malformed("a part has no usable Content-Range");
    this.#position = range.offset;
    this.#left = range.length;
    this.#handler.part?.(range);
  }
}

import type { IncomingHttpHeaders } from "node:http";
import type { ResponseHead } from "./exchange.ts";

/** A parsed head with what says where its body ends. */
export interface ParsedHead extends ResponseHead {
  /** Bytes of the body, "chunked", or "close" for a body that ends with the connection. */
  readonly body: number | "chunked" | "close";
  /** The connection may be used again. */
  readonly keepAlive: boolean;
  /** How long the server keeps it, in milliseconds, if it says so. */
  readonly keepAliveMs: number | undefined;
}

const STATUS_LINE = /^HTTP\/1\.([01]) (\d{3})(?: |$)/;
const FIELD = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*(.*?)[ \t]*$/;

function malformed(why: string): Error {
  return Object.assign(new Error(`malformed answer: ${why}`), { code: "ERR_MALFORMED_ANSWER" });
}

/**
 * Parses the head of an HTTP/1 answer (RFC 9112), without the empty line at its end. Strict where leniency lets answers be
 * confused: no folded fields, no contradicting lengths, no length together with a transfer coding.
 *
 * @throws an error with code `ERR_MALFORMED_ANSWER`
 */
export function parseHead(text: string, method: string): ParsedHead {
  const [line = "", ...lines] = text.split("\r\n");
  const [, minor, code] = STATUS_LINE.exec(line) ?? [];
  if (code === undefined) throw malformed("no status line");
  const headers: Record<string, string | string[]> = {};
  for (const field of lines) {
    const [, name, value] = FIELD.exec(field) ?? [];
    if (name === undefined || value === undefined) throw malformed("a header field");
    const key = name.toLowerCase();
    const known = Object.hasOwn(headers, key) ? headers[key] : undefined;
    headers[key] = known === undefined ? value : Array.isArray(known) ? [...known, value] : [known, value];
  }
  const status = Number(code);
  const connection = String(headers["connection"] ?? "").toLowerCase();
  const seconds = /timeout=(\d{1,6})/i.exec(String(headers["keep-alive"] ?? ""))?.[1];
  return {
    status,
    headers: headers as IncomingHttpHeaders,
    body: bodyOf(status, method, headers),
    keepAlive: minor === "1" ? !connection.includes("close") : connection.includes("keep-alive"),
    keepAliveMs: seconds === undefined ? undefined : Number(seconds) * 1000,
  };
}

function bodyOf(status: number, method: string, headers: Readonly<Record<string, string | string[]>>): ParsedHead["body"] {
  const coding = headers["transfer-encoding"];
  const length = headers["content-length"];
  if (coding !== undefined) {
    if (String(coding).toLowerCase() !== "chunked") throw malformed("an unknown transfer coding");
    if (length !== undefined) throw malformed("both a length and a transfer coding");
  }
  const lengths = new Set(length === undefined ? [] : String(length).split(/\s*,\s*/));
  const [text] = lengths;
  if (lengths.size > 1 || (text !== undefined && !/^\d{1,16}$/.test(text))) throw malformed("the length");
  if (method === "HEAD" || status < 200 || status === 204 || status === 304) return 0;
  if (coding !== undefined) return "chunked";
  return text === undefined ? "close" : Number(text);
}

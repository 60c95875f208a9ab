import { EstargzError } from "@estargz/interface";
import type { LayerLimits } from "../limits.ts";

const NEEDS_CLEANING = /^\/|(?:^|\/)\.{0,2}(?:\/|$)/;

/**
 * Brings a tar name into the form that entries are found by: no leading or trailing slash, no `.`, `..` or empty
 * components; `""` is the root. `..` can't lead out of the root.
 */
export function cleanPath(name: string): string {
  const trimmed = name.endsWith("/") && !name.endsWith("//") ? name.slice(0, -1) : name;
  // Nearly every name is clean; this is the fastest way to see it.
  const suspicious = trimmed.includes("/.") || trimmed.includes("//") || trimmed.startsWith(".") || trimmed.startsWith("/");
  if (trimmed !== "" && !(suspicious && NEEDS_CLEANING.test(trimmed))) return trimmed;
  const parts: string[] = [];
  for (const part of name.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return parts.join("/");
}

const ASCII = /^[ -~]*$/;
const encoder = new TextEncoder();

/** UTF-8 bytes of a text. */
export function utf8Length(text: string): number {
  return ASCII.test(text) ? text.length : encoder.encode(text).length;
}

/**
 * Checks a clean path against limits.
 *
 * @param isPlain - Whether it is known to be of printable ASCII characters.
 * @throws {@link EstargzError} `INVALID_TOC` for a NUL or half a surrogate pair, `LIMIT_EXCEEDED` for one that is too long or too deep.
 */
export function checkPath(path: string, limits: LayerLimits, isPlain = false): void {
  if (!isPlain && (path.includes("\0") || !path.isWellFormed())) {
    throw new EstargzError("INVALID_TOC", `the name ${JSON.stringify(path.slice(0, 80))} can't be a file's name`);
  }
  // Short ones, nearly all of them, can't break any limit.
  if (path.length * 3 <= limits.maxNameBytes && path.length * 3 <= limits.maxPathBytes && path.length / 2 < limits.maxPathDepth) return;
  if (path.length > limits.maxPathBytes || utf8Length(path) > limits.maxPathBytes) {
    throw new EstargzError("LIMIT_EXCEEDED", `a path is longer than ${limits.maxPathBytes} bytes; raise limits.maxPathBytes to allow it`);
  }
  const parts = path.split("/");
  if (parts.length > limits.maxPathDepth) {
    throw new EstargzError("LIMIT_EXCEEDED", `a path is deeper than ${limits.maxPathDepth}; raise limits.maxPathDepth to allow it`);
  }
  for (const part of parts) {
    if (part.length * 3 <= limits.maxNameBytes || utf8Length(part) <= limits.maxNameBytes) continue;
    throw new EstargzError("LIMIT_EXCEEDED", `a name is longer than ${limits.maxNameBytes} bytes; raise limits.maxNameBytes to allow it`);
  }
}

/** Path of the directory that holds `path`, which is not the root. */
export function parentOf(path: string): string {
  const slash = path.lastIndexOf("/");
  return slash < 0 ? "" : path.slice(0, slash);
}

/** Last component of a path. */
export function baseName(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** Orders texts as their UTF-8 bytes are ordered. */
export function compareBytewise(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i += 1) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x === y) continue;
    // Surrogates stand for code points above all others.
    const xHigh = x >= 0xd800 && x <= 0xdfff;
    const yHigh = y >= 0xd800 && y <= 0xdfff;
    return xHigh === yHigh ? x - y : xHigh ? 1 : -1;
  }
  return a.length - b.length;
}

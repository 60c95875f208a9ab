import { EstargzError } from "@estargz/interface";
import type { SnapshotInfo } from "./snapshot.ts";

/** Says whether a snapshot is wanted. */
export type SnapshotFilter = (info: SnapshotInfo) => boolean;

const MAX_LENGTH = 64 * 1024;

function invalid(filter: string, position: number, what: string): EstargzError {
  return new EstargzError("INVALID_ARGUMENT", `filter ${JSON.stringify(filter.slice(0, 200))}: ${what} at position ${position}`);
}

/** Reads containerd's filter syntax: `fieldpath[operator value]`, joined by commas. */
class FilterParser {
  readonly #text: string;
  #position = 0;

  constructor(text: string) {
    this.#text = text;
  }

  parse(): SnapshotFilter {
    const selectors = [this.#selector()];
    while (this.#position < this.#text.length) {
      if (this.#text[this.#position] !== ",") throw invalid(this.#text, this.#position, "expected a comma");
      this.#position += 1;
      selectors.push(this.#selector());
    }
    return (info) => selectors.every((selector) => selector(info));
  }

  #selector(): SnapshotFilter {
    const path = [this.#field()];
    while (this.#text[this.#position] === ".") {
      this.#position += 1;
      path.push(this.#field());
    }
    const operator = this.#operator();
    if (operator === undefined) return (info) => fieldOf(info, path) !== undefined;
    const value = this.#value(operator === "~=");
    if (operator === "==") return (info) => fieldOf(info, path) === value;
    // As in containerd, an absent field counts as empty for these two.
    if (operator === "!=") return (info) => (fieldOf(info, path) ?? "") !== value;
    const pattern = this.#pattern(value);
    return (info) => pattern.test(fieldOf(info, path) ?? "");
  }

  #pattern(value: string): RegExp {
    try {
      return value.startsWith("(?i)") ? new RegExp(value.slice(4), "i") : new RegExp(value);
    } catch (error) {
      throw new EstargzError("INVALID_ARGUMENT", `filter ${JSON.stringify(this.#text)}: invalid regular expression`, { cause: error });
    }
  }

  #skipSpace(): void {
    while (/\s/.test(this.#text[this.#position] ?? "")) this.#position += 1;
  }

  #field(): string {
    this.#skipSpace();
    if (this.#text[this.#position] === '"') return this.#quoted('"');
    const match = /^[A-Za-z_][A-Za-z0-9_]*/.exec(this.#text.slice(this.#position));
    if (match === null) throw invalid(this.#text, this.#position, "expected a field");
    this.#position += match[0].length;
    return match[0];
  }

  #operator(): "==" | "!=" | "~=" | undefined {
    this.#skipSpace();
    const rest = this.#text.slice(this.#position, this.#position + 2);
    if (rest === "" || rest.startsWith(",")) return undefined;
    if (rest !== "==" && rest !== "!=" && rest !== "~=") throw invalid(this.#text, this.#position, "expected ==, != or ~=");
    this.#position += 2;
    return rest;
  }

  #value(anyQuote: boolean): string {
    this.#skipSpace();
    const first = this.#text[this.#position];
    if (first === '"' || (anyQuote && (first === "/" || first === "|"))) return this.#quoted(first);
    const match = /^[^,"\s]+/.exec(this.#text.slice(this.#position));
    if (match === null) throw invalid(this.#text, this.#position, "expected a value");
    this.#position += match[0].length;
    return match[0];
  }

  #quoted(quote: string): string {
    let value = "";
    for (let at = this.#position + 1; at < this.#text.length; at += 1) {
      const character = this.#text[at] ?? "";
      if (character === quote) {
        this.#position = at + 1;
        return value;
      }
      if (character === "\\" && at + 1 < this.#text.length) {
        const [text, length] = unescape(this.#text, at, quote);
        value += text;
        at += length - 1;
      } else value += character;
    }
    throw invalid(this.#text, this.#position, "unterminated quote");
  }
}

const SIMPLE: Readonly<Record<string, string>> = { n: "\n", t: "\t", r: "\r", a: "\x07", b: "\b", f: "\f", v: "\v", "\\": "\\", '"': '"' };

/** An escape of Go's quoted strings at `at`: its text and the length of its source. In regular expressions others stay as they are. */
function unescape(text: string, at: number, quote: string): [string, number] {
  const next = text[at + 1] ?? "";
  if (quote !== '"') return next === quote ? [next, 2] : [`\\${next}`, 2];
  const code = /^\\(?:x([0-9a-f]{2})|u([0-9a-f]{4}))/i.exec(text.slice(at, at + 6));
  if (code !== null) return [String.fromCharCode(Number.parseInt(code[1] ?? code[2] ?? "0", 16)), code[0].length];
  const simple = SIMPLE[next];
  if (simple === undefined) throw invalid(text, at, "unknown escape");
  return [simple, 2];
}

function fieldOf(info: SnapshotInfo, path: readonly string[]): string | undefined {
  const [first, ...rest] = path;
  if (first === "labels") return rest.length === 0 ? undefined : info.labels[rest.join(".")];
  if (rest.length > 0) return undefined;
  if (first === "kind") return info.kind;
  if (first === "name") return info.name;
  if (first === "parent") return info.parent;
  return undefined;
}

/**
 * Parses containerd filters (`labels."containerd.io/snapshot.ref"==sha256:…,parent=="…"`). A snapshot is wanted when any
 * of them matches, or when there are none.
 *
 * @throws `INVALID_ARGUMENT`
 */
export function parseFilters(filters: readonly string[]): SnapshotFilter {
  if (filters.length === 0) return () => true;
  const parsed = filters.map((filter) => {
    if (filter.length > MAX_LENGTH) throw new EstargzError("INVALID_ARGUMENT", `filter is longer than ${MAX_LENGTH} characters`);
    return new FilterParser(filter).parse();
  });
  return (info) => parsed.some((filter) => filter(info));
}

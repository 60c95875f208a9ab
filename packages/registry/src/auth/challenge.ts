/** One challenge of a WWW-Authenticate header. */
export interface Challenge {
  /** Lower case: `bearer`, `basic`, … */
  readonly scheme: string;
  /** By lower-case name. */
  readonly parameters: ReadonlyMap<string, string>;
}

const TOKEN = /[!#$%&'*+\-.^_`|~0-9A-Za-z]+/y;
const MAX_LENGTH = 16 * 1024;

/** A cursor over a header field's value. */
class Scanner {
  readonly #text: string;
  at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  get done(): boolean {
    return this.at >= this.#text.length;
  }

  skip(characters: string): void {
    while (this.at < this.#text.length && characters.includes(this.#text.charAt(this.at))) this.at += 1;
  }

  token(): string | undefined {
    TOKEN.lastIndex = this.at;
    const match = TOKEN.exec(this.#text);
    if (match === null) return undefined;
    this.at = TOKEN.lastIndex;
    return match[0];
  }

  take(character: string): boolean {
    if (this.#text.charAt(this.at) !== character) return false;
    this.at += 1;
    return true;
  }

  quoted(): string {
    let value = "";
    while (!this.done) {
      const character = this.#text.charAt(this.at++);
      if (character === '"') return value;
      value += character === "\\" ? this.#text.charAt(this.at++) : character;
    }
    return value;
  }

  /** An unquoted value: lenient, up to a comma or blank, because registries put URLs there. */
  bare(): string {
    const start = this.at;
    while (!this.done && !", \t".includes(this.#text.charAt(this.at))) this.at += 1;
    return this.#text.slice(start, this.at);
  }
}

/**
 * Parses the values of WWW-Authenticate (RFC 9110, 11.6.1): several fields, several challenges in one field, quoted
 * pairs, token68. What cannot be understood is skipped, never thrown.
 */
export function parseChallenges(values: string | readonly string[] | undefined): Challenge[] {
  const challenges: Challenge[] = [];
  const fields = values === undefined ? [] : typeof values === "string" ? [values] : values;
  for (const field of fields) {
    const scanner = new Scanner(field.slice(0, MAX_LENGTH));
    let current: Map<string, string> | undefined;
    while (!scanner.done) {
      scanner.skip(", \t");
      const word = scanner.token();
      if (word === undefined) {
        scanner.at += 1;
        continue;
      }
      const afterWord = scanner.at;
      scanner.skip(" \t");
      if (scanner.take("=") && current !== undefined) {
        scanner.skip(" \t");
        current.set(word.toLowerCase(), scanner.take('"') ? scanner.quoted() : scanner.bare());
      } else {
        scanner.at = afterWord;
        current = new Map();
        challenges.push({ scheme: word.toLowerCase(), parameters: current });
      }
    }
  }
  return challenges;
}

import { appendFileSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";

/**
 * The lines in which a process notes what is open, for the process after it. A disk that takes no more fails nobody: the record is
 * behind then, until it can be written anew.
 */
export class OpenFileRecord {
  readonly #path: string;
  #lines = 0;
  #behind = false;

  constructor(path: string) {
    this.#path = path;
  }

  /** Number of lines in the file. */
  get lines(): number {
    return this.#lines;
  }

  /** Whether lines are missing: the next thing to do is {@link OpenFileRecord.rewrite}. */
  get behind(): boolean {
    return this.#behind;
  }

  /** What a former process noted; nothing when there is no record. */
  read(): readonly string[] {
    try {
      return readFileSync(this.#path, "utf8").split("\n");
    } catch {
      return [];
    }
  }

  /** Adds a line. */
  append(line: string): void {
    try {
      appendFileSync(this.#path, `${line}\n`);
      this.#lines += 1;
    } catch {
      // Part of the line may be there: what comes next can't be put behind it.
      this.#behind = true;
    }
  }

  /** Writes the record anew, in one step: a process that is killed leaves the old one or the new one. */
  rewrite(lines: readonly string[]): void {
    const temporary = `${this.#path}.new`;
    try {
      writeFileSync(temporary, lines.map((line) => `${line}\n`).join(""));
      renameSync(temporary, this.#path);
      this.#lines = lines.length;
      this.#behind = false;
    } catch {
      this.#behind = true;
    }
  }

  /** Removes the record. */
  remove(): void {
    try {
      for (const path of [this.#path, `${this.#path}.new`]) rmSync(path, { force: true });
    } catch {
      // A read-only disk.
      this.#behind = true;
    }
  }
}

import { appendFileSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { DeviceIoctl, RESENT_HIGH } from "./protocol.ts";
import type { MissRequest } from "./request-handler.ts";
import type { SystemCalls } from "./system-calls.ts";

/** How a big file is open. The kernel refuses to have one inode open in two ways at once. */
interface OpenFile {
  /** The kernel's number of the backing file; 0 while the file is read through requests. */
  backingId: number;
  /** Number of opens not released yet. */
  opens: number;
}

/** Opens and releases kept to recognise those that are sent again. */
const RECENT = 4096;

/**
 * Which big files of a connection the kernel reads by itself. Decided at the first open of an inode and kept until the
 * last release. With a path, all of it is on record there, so that the next process knows what is open.
 */
export class Passthrough {
  readonly #systemCalls: SystemCalls;
  readonly #fd: number;
  readonly #recordPath: string | undefined;
  /** Lines of the record that the disk has not taken yet. */
  #unwritten = "";
  readonly #files = new Map<string, OpenFile>();
  readonly #recent = new Set<string>();
  #unsupported = false;

  /**
   * @param recordPath - File of the record; `undefined` when no other process will take the connection over.
   * @param resume - Whether the record is of this connection; otherwise it is begun anew.
   */
  constructor(systemCalls: SystemCalls, fd: number, recordPath: string | undefined, resume: boolean) {
    this.#systemCalls = systemCalls;
    this.#fd = fd;
    this.#recordPath = recordPath;
    if (recordPath === undefined) return;
    if (resume) this.#load(recordPath);
    this.#compact(recordPath);
  }

  /** Files that are read by the kernel itself now. */
  get passed(): number {
    return [...this.#files.values()].filter((file) => file.backingId !== 0 && file.opens > 0).length;
  }

  /**
   * Opens a file.
   *
   * @param backingPath - Gives the backing file of a wholly local file.
   * @returns The number of the backing file for the reply; 0 when the file is to be read through requests.
   */
  open(request: MissRequest, backingPath: () => string | undefined): number {
    const name = `${request.layer}/${request.inode}`;
    const file = this.#files.get(name) ?? { backingId: 0, opens: 0 };
    this.#files.set(name, file);
    if (this.#isRepeated("o", request)) return file.backingId;
    if (file.opens === 0 && file.backingId === 0) file.backingId = this.#register(backingPath);
    file.opens += 1;
    this.#record(`o ${name} ${file.backingId} ${uniqueOf(request)}`);
    return file.backingId;
  }

  /** Releases a file. */
  release(request: MissRequest): void {
    const name = `${request.layer}/${request.inode}`;
    const file = this.#files.get(name);
    if (file === undefined || file.opens === 0 || this.#isRepeated("r", request)) return;
    file.opens -= 1;
    this.#record(`r ${name} ${file.backingId} ${uniqueOf(request)}`);
  }

  /** A request that a former process has handled already, and that is sent again because its reply is missing. */
  #isRepeated(kind: "o" | "r", request: MissRequest): boolean {
    const unique = `${kind}${uniqueOf(request)}`;
    const known = this.#recent.has(unique);
    this.#remember(unique);
    return known && request.uniqueHigh >= RESENT_HIGH;
  }

  #remember(unique: string): void {
    if (this.#recent.size >= RECENT) {
      const [oldest] = this.#recent;
      if (oldest !== undefined) this.#recent.delete(oldest);
    }
    this.#recent.add(unique);
  }

  #register(backingPath: () => string | undefined): number {
    if (this.#unsupported) return 0;
    const path = backingPath();
    if (path === undefined) return 0;
    const fd = this.#systemCalls.open(path, 0);
    if (fd < 0) return 0;
    const argument = new Uint8Array(128);
    new DataView(argument.buffer).setInt32(0, fd, true);
    const id = this.#systemCalls.ioctl(this.#fd, DeviceIoctl.BACKING_OPEN, argument);
    this.#systemCalls.close(fd);
    // A state directory on overlayfs (ELOOP), or no CAP_SYS_ADMIN: files are read through requests instead.
    if (id <= 0) this.#unsupported = true;
    return Math.max(id, 0);
  }

  #record(line: string): void {
    if (this.#recordPath === undefined) return;
    this.#unwritten += `${line}\n`;
    try {
      appendFileSync(this.#recordPath, this.#unwritten);
      this.#unwritten = "";
    } catch {
      // A full disk fails no open: what is missing is written with the next line.
    }
  }

  #load(path: string): void {
    let text: string;
    try {
      text = readFileSync(path, "utf8");
    } catch {
      return;
    }
    for (const line of text.split("\n")) {
      const [kind, name, id, unique] = line.split(" ");
      if (kind === undefined || name === undefined || id === undefined) continue;
      if (name === "-") {
        this.#remember(`${kind.toLowerCase()}${unique}`);
        continue;
      }
      const file = this.#files.get(name) ?? { backingId: 0, opens: 0 };
      file.backingId = Number(id);
      if (kind === "s") file.opens = Number(unique);
      else if (kind === "o") file.opens += 1;
      else if (kind === "r") file.opens -= 1;
      if (kind !== "s" && unique !== undefined) this.#remember(`${kind}${unique}`);
      this.#files.set(name, file);
    }
  }

  /** Writes the record anew: sums, and the last requests. */
  #compact(path: string): void {
    const lines = [...this.#files].map(([name, file]) => `s ${name} ${file.backingId} ${file.opens}\n`);
    // Requests that may be sent again stay known: lines that count nothing.
    const recent = [...this.#recent].map((unique) => `${unique.slice(0, 1) === "o" ? "O" : "R"} - - ${unique.slice(1)}\n`);
    writeFileSync(path, [...lines, ...recent].join(""));
  }

  /** Removes the record. */
  forget(): void {
    if (this.#recordPath !== undefined) rmSync(this.#recordPath, { force: true });
  }
}

function uniqueOf(request: MissRequest): string {
  return `${(request.uniqueHigh & 0x7fffffff).toString(16)}.${request.uniqueLow.toString(16)}`;
}

import { OpenFileRecord } from "./open-file-record.ts";
import { DeviceIoctl, RESENT_HIGH } from "./protocol.ts";
import type { MissRequest } from "./request-handler.ts";
import type { SystemCalls } from "./system-calls.ts";

/** How a big file is open. The kernel refuses to have one inode open in two ways at once. */
interface OpenFile {
  /** The kernel's number of the backing file; 0 while the file is read through requests. */
  readonly backingId: number;
  /** Number of opens not released yet. */
  opens: number;
}

/** Opens and releases kept to recognise those that are sent again. */
const RECENT = 4096;
/** Lines that the record may be longer than it has to be, before it is written anew. */
const SURPLUS_LINES = 65_536;

/** Options of {@link Passthrough}. */
export interface PassthroughOptions {
  /** File of the record; `undefined` when no other process will take the connection over. */
  readonly recordPath: string | undefined;
  /** Whether the record is of this connection; otherwise it is begun anew. */
  readonly resume: boolean;
  /** Lines that the record may be longer than it has to be, before it is written anew. Default 65,536. */
  readonly surplusLines?: number | undefined;
}

/**
 * Which big files of a connection the kernel reads by itself. Decided at the first open of an inode and kept until the
 * last release; then the kernel lets go of the backing file, whose disk blocks it would hold otherwise. With a path, all of
 * it is on record there, so that the next process knows what is open.
 */
export class Passthrough {
  readonly #systemCalls: SystemCalls;
  readonly #fd: number;
  readonly #record: OpenFileRecord | undefined;
  readonly #surplusLines: number;
  readonly #files = new Map<string, OpenFile>();
  readonly #recent = new Set<string>();
  /** Numbers of backing files that nothing is open with, to be given back. */
  readonly #ended = new Set<number>();
  #unsupported = false;

  constructor(systemCalls: SystemCalls, fd: number, options: PassthroughOptions) {
    const { recordPath, resume, surplusLines = SURPLUS_LINES } = options;
    this.#systemCalls = systemCalls;
    this.#fd = fd;
    this.#surplusLines = surplusLines;
    if (recordPath === undefined) return;
    this.#record = new OpenFileRecord(recordPath);
    if (resume) for (const line of this.#record.read()) this.#replay(line);
    else this.#record.remove();
    this.#compact(this.#record);
    this.#closeEnded();
  }

  /**
   * Opens a file.
   *
   * @param backingPath - Gives the backing file of a wholly local file.
   * @returns The number of the backing file for the reply; 0 when the file is to be read through requests.
   */
  open(request: MissRequest, backingPath: () => string | undefined): number {
    const name = `${request.layer}/${request.inode}`;
    const known = this.#files.get(name);
    if (this.#isRepeated("o", request) && known !== undefined) return known.backingId;
    const file = known ?? { backingId: this.#register(backingPath), opens: 0 };
    file.opens += 1;
    this.#files.set(name, file);
    this.#note(`o ${name} ${file.backingId} ${uniqueOf(request)}`);
    return file.backingId;
  }

  /** Releases a file. */
  release(request: MissRequest): void {
    const name = `${request.layer}/${request.inode}`;
    const file = this.#files.get(name);
    if (file === undefined || this.#isRepeated("r", request)) return;
    file.opens -= 1;
    if (file.opens <= 0) this.#end(name, file);
    this.#note(`r ${name} ${file.backingId} ${uniqueOf(request)}`);
  }

  /** Forgets the files of a layer that the kernel knows nothing of any more. */
  removeLayer(layer: number): void {
    for (const [name, file] of this.#files) {
      if (!name.startsWith(`${layer}/`)) continue;
      this.#end(name, file);
      this.#note(`s ${name} ${file.backingId} 0`);
    }
  }

  #end(name: string, { backingId }: OpenFile): void {
    this.#files.delete(name);
    if (backingId !== 0) this.#ended.add(backingId);
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

  /** Lets the kernel close backing files. The record says before that nothing is open with them: who reads it opens them anew. */
  #closeEnded(): void {
    if (this.#record?.behind === true) return;
    for (const id of this.#ended) {
      const argument = new Uint8Array(128);
      new DataView(argument.buffer).setUint32(0, id, true);
      // Fails for those that a former process has closed already.
      this.#systemCalls.ioctl(this.#fd, DeviceIoctl.BACKING_CLOSE, argument);
    }
    this.#ended.clear();
  }

  #note(line: string): void {
    const record = this.#record;
    if (record !== undefined) {
      if (!record.behind) record.append(line);
      if (record.behind || record.lines > this.#surplusLines + this.#files.size + this.#recent.size) this.#compact(record);
    }
    if (this.#ended.size > 0) this.#closeEnded();
  }

  /** Takes a line of a former process. */
  #replay(line: string): void {
    const [kind, name, id, unique] = line.split(" ");
    if (kind === undefined || name === undefined || id === undefined) return;
    if (name === "-") {
      this.#remember(`${kind.toLowerCase()}${unique}`);
      return;
    }
    const opens = this.#files.get(name)?.opens ?? 0;
    const file = { backingId: Number(id), opens: kind === "s" ? Number(unique) : kind === "o" ? opens + 1 : opens - 1 };
    if (kind !== "s" && unique !== undefined) this.#remember(`${kind}${unique}`);
    if (file.opens > 0) {
      this.#files.set(name, file);
      this.#ended.delete(file.backingId);
    } else this.#end(name, file);
  }

  /** Writes the record anew: sums, and the last requests. */
  #compact(record: OpenFileRecord): void {
    const sums = [...this.#files].map(([name, file]) => `s ${name} ${file.backingId} ${file.opens}`);
    // Numbers whose close is not known to have happened: closed by the next process, if this one cannot.
    const ended = [...this.#ended].map((id) => `s ended-${id} ${id} 0`);
    // Requests that may be sent again stay known: lines that count nothing.
    const recent = [...this.#recent].map((unique) => `${unique.slice(0, 1) === "o" ? "O" : "R"} - - ${unique.slice(1)}`);
    record.rewrite([...sums, ...ended, ...recent]);
  }

  /** Removes the record. */
  forget(): void {
    this.#record?.remove();
  }
}

function uniqueOf(request: MissRequest): string {
  return `${(request.uniqueHigh & 0x7fffffff).toString(16)}.${request.uniqueLow.toString(16)}`;
}

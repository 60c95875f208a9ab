import { open } from "node:fs/promises";
import { EstargzError, type ReaderAt } from "@estargz/interface";
import { FileReader } from "./file-reader.ts";
import type { LayoutFiles } from "./oci-directory.ts";

const BLOCK = 512;
const MAX_MEMBERS = 100_000;
const MAX_EXTENSION_BYTES = 1024 * 1024;

interface Member {
  readonly start: number;
  readonly size: number;
}

function text(header: Buffer, from: number, length: number): string {
  const field = header.subarray(from, from + length);
  const end = field.indexOf(0);
  return field.subarray(0, end < 0 ? length : end).toString("utf8");
}

function numberOf(header: Buffer, from: number, length: number): number {
  const first = header[from] ?? 0;
  if ((first & 0x80) !== 0) {
    let value = BigInt(first & 0x7f);
    for (let at = from + 1; at < from + length; at++) value = (value << 8n) | BigInt(header[at] ?? 0);
    return Number(value);
  }
  const digits = text(header, from, length).trim();
  return digits === "" ? 0 : Number.parseInt(digits, 8);
}

function paxRecords(bytes: Uint8Array): Map<string, string> {
  const records = new Map<string, string>();
  const buffer = Buffer.from(bytes);
  for (let at = 0; at < buffer.length; ) {
    const blank = buffer.indexOf(0x20, at);
    const length = Number(buffer.subarray(at, blank).toString("latin1"));
    if (blank < 0 || !Number.isInteger(length) || length <= 0 || at + length > buffer.length) break;
    const record = buffer.subarray(blank + 1, at + length - 1).toString("utf8");
    const equals = record.indexOf("=");
    if (equals > 0) records.set(record.slice(0, equals), record.slice(equals + 1));
    at += length;
  }
  return records;
}

/** Where each file of a tar archive lies in it. Reads headers only; the data is skipped. */
async function indexArchive(path: string): Promise<Map<string, Member>> {
  const members = new Map<string, Member>();
  const reader = new FileReader(path);
  try {
    const { size: total } = await reader.readTail(0);
    let pax = new Map<string, string>();
    let longName: string | undefined;
    for (let at = 0; at + BLOCK <= total; ) {
      const header = Buffer.from((await reader.readAt(at, BLOCK)).buffer);
      if (header.every((byte) => byte === 0)) break;
      if (text(header, 257, 5) !== "ustar")
        throw new EstargzError("INVALID_TAR", `${path} is not a tar archive (or a compressed one: decompress it first)`);
      const type = String.fromCharCode(header[156] ?? 0);
      const size = Number(pax.get("size") ?? numberOf(header, 124, 12));
      const start = at + BLOCK;
      if (!Number.isSafeInteger(size) || size < 0 || start + size > total)
        throw new EstargzError("INVALID_TAR", `${path} is cut off or damaged`);
      if (type === "x" || type === "L") {
        if (size > MAX_EXTENSION_BYTES) throw new EstargzError("LIMIT_EXCEEDED", `${path} has an extended header of ${size} bytes`);
        const bytes = await reader.readAt(start, size);
        if (type === "x") pax = paxRecords(bytes);
        else longName = text(Buffer.from(bytes), 0, size);
      } else {
        const prefix = text(header, 345, 155);
        const short = text(header, 0, 100);
        const name = pax.get("path") ?? longName ?? (prefix === "" ? short : `${prefix}/${short}`);
        if (type === "0" || type === "\0") members.set(name.replace(/^(?:\.?\/)+/, ""), { start, size });
        if (members.size > MAX_MEMBERS) throw new EstargzError("LIMIT_EXCEEDED", `${path} has more than ${MAX_MEMBERS} files`);
        pax = new Map();
        longName = undefined;
      }
      at = start + Math.ceil(size / BLOCK) * BLOCK;
    }
    return members;
  } finally {
    await reader.close();
  }
}

/** An OCI layout in a tar archive, as `docker buildx --output type=oci` and skopeo write it; read in place. */
export class ArchiveFiles implements LayoutFiles {
  readonly #path: string;
  #members: Promise<Map<string, Member>> | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  #index(): Promise<Map<string, Member>> {
    this.#members ??= indexArchive(this.#path).catch((error: unknown) => {
      this.#members = undefined;
      throw error;
    });
    return this.#members;
  }

  async #member(path: string): Promise<Member> {
    const member = (await this.#index()).get(path);
    if (member === undefined) throw new EstargzError("NOT_FOUND", `${this.#path} has no ${path}`);
    return member;
  }

  async read(path: string, maxBytes: number): Promise<Uint8Array> {
    const member = await this.#member(path);
    if (member.size > maxBytes) throw new EstargzError("LIMIT_EXCEEDED", `${path} in ${this.#path} is larger than ${maxBytes} bytes`);
    const handle = await open(this.#path, "r");
    try {
      const buffer = Buffer.alloc(member.size);
      const { bytesRead } = await handle.read(buffer, 0, member.size, member.start);
      if (bytesRead !== member.size) throw new EstargzError("SHORT_READ", `${this.#path} changed while it was read`);
      return new Uint8Array(buffer);
    } finally {
      await handle.close();
    }
  }

  reader(path: string, size: number | undefined): ReaderAt {
    return new ArchiveReader(this.#path, () => this.#member(path), size);
  }

  async has(path: string): Promise<boolean> {
    return (await this.#index()).has(path);
  }

  #readOnly(): never {
    throw new EstargzError(
      "UNSUPPORTED",
      `${this.#path} is an archive and cannot be written to: write to a layout (oci:DIRECTORY) and pack it`,
    );
  }

  async replace(): Promise<void> {
    this.#readOnly();
  }

  async store(): Promise<void> {
    this.#readOnly();
  }

  async alone<T>(): Promise<T> {
    return this.#readOnly();
  }

  async close(): Promise<void> {}
}

/** A file in an archive, found at the first read. */
class ArchiveReader implements ReaderAt {
  readonly #path: string;
  readonly #find: () => Promise<Member>;
  readonly #expected: number | undefined;
  #reader: Promise<FileReader> | undefined;
  #closed = false;

  constructor(path: string, find: () => Promise<Member>, expected: number | undefined) {
    this.#path = path;
    this.#find = find;
    this.#expected = expected;
  }

  get size(): number | undefined {
    return this.#expected;
  }

  #open(): Promise<FileReader> {
    if (this.#closed) throw new EstargzError("CLOSED", `the reader of ${this.#path} is closed`);
    this.#reader ??= this.#find().then((member) => {
      if (this.#expected !== undefined && this.#expected !== member.size) {
        throw new EstargzError("INVALID_RESPONSE", `${this.#path} has a blob of ${member.size} bytes where ${this.#expected} are expected`);
      }
      return new FileReader(this.#path, member);
    });
    this.#reader.catch(() => {
      this.#reader = undefined;
    });
    return this.#reader;
  }

  readonly readAt: ReaderAt["readAt"] = async (...given) => (await this.#open()).readAt(...given);
  readonly readTail: ReaderAt["readTail"] = async (...given) => (await this.#open()).readTail(...given);
  readonly readRanges: ReaderAt["readRanges"] = async (...given) => (await this.#open()).readRanges(...given);

  async close(): Promise<void> {
    this.#closed = true;
    await (await this.#reader?.catch(() => undefined))?.close();
  }
}

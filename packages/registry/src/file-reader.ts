import { type FileHandle, open } from "node:fs/promises";
import { type ByteRange, EstargzError, type ReaderAt, type ReadOptions, type Tail } from "@estargz/interface";
import { checkRange } from "./range-planner.ts";

/** Bytes of one piece of a stream. */
const PIECE_BYTES = 256 * 1024;

function fileError(error: unknown, path: string): unknown {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === "ENOENT" || code === "ENOTDIR") return new EstargzError("NOT_FOUND", `${path} does not exist`, { cause: error });
  if (code === "EACCES" || code === "EPERM") return new EstargzError("PERMISSION_DENIED", `${path} may not be read`, { cause: error });
  return error instanceof EstargzError
    ? error
    : new EstargzError("IO_ERROR", `${path} cannot be read: ${code ?? "unknown error"}`, { cause: error });
}

/** A window of a file: a blob of a layout, or a member of an archive. Opens the file at the first read. */
export class FileReader implements ReaderAt {
  readonly #path: string;
  readonly #start: number;
  #size: number | undefined;
  #handle: Promise<FileHandle> | undefined;
  #closed = false;

  constructor(path: string, window: { readonly start: number; readonly size: number | undefined } = { start: 0, size: undefined }) {
    this.#path = path;
    this.#start = window.start;
    this.#size = window.size;
  }

  get size(): number | undefined {
    return this.#size;
  }

  #open(): Promise<FileHandle> {
    if (this.#closed) throw new EstargzError("CLOSED", `the reader of ${this.#path} is closed`);
    this.#handle ??= open(this.#path, "r").catch((error: unknown) => {
      this.#handle = undefined;
      throw fileError(error, this.#path);
    });
    return this.#handle;
  }

  /** The handle, with the size known. */
  async #opened(): Promise<FileHandle> {
    const handle = await this.#open();
    this.#size ??= (await handle.stat()).size - this.#start;
    return handle;
  }

  async readAt(offset: number, length: number, options: ReadOptions = {}): Promise<Uint8Array> {
    options.signal?.throwIfAborted();
    checkRange(offset, length, this.#size);
    const handle = await this.#opened();
    checkRange(offset, length, this.#size);
    const buffer = Buffer.allocUnsafeSlow(length);
    for (let filled = 0; filled < length; ) {
      options.signal?.throwIfAborted();
      let read: number;
      try {
        ({ bytesRead: read } = await handle.read(buffer, filled, length - filled, this.#start + offset + filled));
      } catch (error) {
        throw fileError(error, this.#path);
      }
      if (read === 0) throw new EstargzError("SHORT_READ", `${this.#path} ends ${length - filled} bytes early`);
      filled += read;
    }
    options.signal?.throwIfAborted();
    return new Uint8Array(buffer.buffer, buffer.byteOffset, length);
  }

  async readTail(length: number, options: ReadOptions = {}): Promise<Tail> {
    options.signal?.throwIfAborted();
    checkRange(0, length, undefined);
    await this.#opened();
    const size = this.#size ?? 0;
    const take = Math.min(size, length);
    return { bytes: await this.readAt(size - take, take, options), size };
  }

  readRanges(ranges: readonly ByteRange[], options: ReadOptions = {}): Promise<Uint8Array[]> {
    return Promise.all(ranges.map(({ offset, length }) => this.readAt(offset, length, options)));
  }

  async *stream(offset: number, length: number, options: ReadOptions = {}): AsyncGenerator<Uint8Array, void, void> {
    for (let at = 0; at < length; at += PIECE_BYTES) yield await this.readAt(offset + at, Math.min(PIECE_BYTES, length - at), options);
  }

  async close(): Promise<void> {
    this.#closed = true;
    const handle = this.#handle;
    this.#handle = undefined;
    await (await handle?.catch(() => undefined))?.close();
  }
}

import { type FileHandle, open } from "node:fs/promises";
import { type ByteRange, EstargzError, type ReaderAt, type ReadOptions, type Tail } from "@estargz/interface";
import { checkRange } from "./range-planner.ts";

/** How long a file stays open after a read, in milliseconds. */
const IDLE_MS = 1000;
/** Bytes of one piece of a stream. */
const PIECE_BYTES = 256 * 1024;

function fileError(error: unknown, path: string): unknown {
  const code = typeof error === "object" && error !== null && "syscall" in error ? (error as NodeJS.ErrnoException).code : undefined;
  // An error of ours, or a caller's reason.
  if (code === undefined) return error;
  if (code === "ENOENT" || code === "ENOTDIR") return new EstargzError("NOT_FOUND", `${path} does not exist`, { cause: error });
  if (code === "EACCES" || code === "EPERM") return new EstargzError("PERMISSION_DENIED", `${path} may not be read`, { cause: error });
  return new EstargzError("IO_ERROR", `${path} cannot be read: ${code}`, { cause: error });
}

/** A window of a file: a blob of a layout, or a member of an archive. Opens the file at the first read. */
export class FileReader implements ReaderAt {
  readonly #path: string;
  readonly #start: number;
  #size: number | undefined;
  #handle: Promise<FileHandle> | undefined;
  #closed = false;
  #users = 0;
  #idle: NodeJS.Timeout | undefined;

  constructor(path: string, window: { readonly start: number; readonly size: number | undefined } = { start: 0, size: undefined }) {
    this.#path = path;
    this.#start = window.start;
    this.#size = window.size;
  }

  get size(): number | undefined {
    return this.#size;
  }

  /** Runs a task with the file open. It stays open for a moment for the next read, and no longer: nobody has to close a reader. */
  async #with<T>(task: (handle: FileHandle) => Promise<T>): Promise<T> {
    if (this.#closed) throw new EstargzError("CLOSED", `the reader of ${this.#path} is closed`);
    clearTimeout(this.#idle);
    this.#users += 1;
    try {
      this.#handle ??= open(this.#path, "r");
      const handle = await this.#handle;
      this.#size ??= (await handle.stat()).size - this.#start;
      return await task(handle);
    } catch (error) {
      if (this.#users === 1) await this.#release();
      throw fileError(error, this.#path);
    } finally {
      this.#users -= 1;
      if (this.#users === 0 && this.#handle !== undefined) {
        if (this.#closed) await this.#release();
        else this.#idle = setTimeout(() => void this.#release(), IDLE_MS).unref();
      }
    }
  }

  async #release(): Promise<void> {
    const handle = this.#handle;
    this.#handle = undefined;
    await (await handle?.catch(() => undefined))?.close();
  }

  readAt(offset: number, length: number, options: ReadOptions = {}): Promise<Uint8Array> {
    return this.#with((handle) => this.#read(handle, offset, length, options));
  }

  async #read(handle: FileHandle, offset: number, length: number, { signal }: ReadOptions): Promise<Uint8Array> {
    signal?.throwIfAborted();
    checkRange(offset, length, this.#size);
    const buffer = Buffer.allocUnsafeSlow(length);
    for (let filled = 0; filled < length; ) {
      const { bytesRead } = await handle.read(buffer, filled, length - filled, this.#start + offset + filled);
      signal?.throwIfAborted();
      if (bytesRead === 0) throw new EstargzError("SHORT_READ", `${this.#path} ends ${length - filled} bytes early`);
      filled += bytesRead;
    }
    return new Uint8Array(buffer.buffer, buffer.byteOffset, length);
  }

  readTail(length: number, options: ReadOptions = {}): Promise<Tail> {
    return this.#with(async (handle) => {
      options.signal?.throwIfAborted();
      checkRange(0, length, undefined);
      const size = this.#size ?? 0;
      const take = Math.min(size, length);
      return { bytes: await this.#read(handle, size - take, take, options), size };
    });
  }

  readRanges(ranges: readonly ByteRange[], options: ReadOptions = {}): Promise<Uint8Array[]> {
    return Promise.all(ranges.map(({ offset, length }) => this.readAt(offset, length, options)));
  }

  async *stream(offset: number, length: number, options: ReadOptions = {}): AsyncGenerator<Uint8Array, void, void> {
    for (let at = 0; at < length; at += PIECE_BYTES) yield await this.readAt(offset + at, Math.min(PIECE_BYTES, length - at), options);
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#idle);
    if (this.#users === 0) await this.#release();
  }
}

import { createWriteStream } from "node:fs";
import { access, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { dirname, join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { type Digest, digestHex, EstargzError, isEstargzError, parseDigest, type ReaderAt } from "@estargz/interface";
import { FileReader } from "./file-reader.ts";

/** Where an OCI layout keeps its files: a folder, or an archive that is only read. */
export interface LayoutFiles {
  /** A small file's content. @throws `NOT_FOUND` */
  read(path: string, maxBytes: number): Promise<Uint8Array>;
  reader(path: string, size: number | undefined): ReaderAt;
  has(path: string): Promise<boolean>;
  /** Replaces a small file at once. @throws `UNSUPPORTED` for archives */
  replace(path: string, bytes: Uint8Array): Promise<void>;
  /** Stores a file that appears only when it is complete. */
  store(path: string, content: AsyncIterable<Uint8Array>, signal: AbortSignal | undefined): Promise<void>;
  /** Runs a change of the layout alone. */
  alone<T>(task: () => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

/** Path of a blob in a layout (image-spec, image-layout.md). The digest is checked, so that it cannot leave the folder. */
export function blobPath(digest: Digest): string {
  const checked = parseDigest(digest);
  return `blobs/${checked.slice(0, checked.indexOf(":"))}/${digestHex(checked)}`;
}

let counter = 0;

/** A unique name beside a file, for writing it before it is renamed. */
function temporary(path: string): string {
  counter += 1;
  return join(dirname(path), `.tmp-${process.pid}-${counter}`);
}

function writeError(error: unknown, path: string): EstargzError {
  if (isEstargzError(error)) return error;
  const { code } = error as NodeJS.ErrnoException;
  const full = code === "ENOSPC" || code === "EDQUOT";
  return new EstargzError(full ? "NO_SPACE" : "IO_ERROR", `${path} cannot be written`, { cause: error });
}

/** An OCI layout in a folder; the folder is made at the first write. */
export class DirectoryFiles implements LayoutFiles {
  readonly #root: string;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(root: string) {
    this.#root = root;
  }

  async read(path: string, maxBytes: number): Promise<Uint8Array> {
    const reader = new FileReader(join(this.#root, path));
    try {
      const { bytes, size } = await reader.readTail(maxBytes);
      if (size > maxBytes) throw new EstargzError("LIMIT_EXCEEDED", `${join(this.#root, path)} is larger than ${maxBytes} bytes`);
      return bytes;
    } finally {
      await reader.close();
    }
  }

  reader(path: string, size: number | undefined): ReaderAt {
    return new FileReader(join(this.#root, path), { start: 0, size });
  }

  async has(path: string): Promise<boolean> {
    try {
      await access(join(this.#root, path));
      return true;
    } catch {
      return false;
    }
  }

  async replace(path: string, bytes: Uint8Array): Promise<void> {
    const file = join(this.#root, path);
    await mkdir(dirname(file), { recursive: true });
    const name = temporary(file);
    try {
      await writeFile(name, bytes);
      await rename(name, file);
    } catch (error) {
      await rm(name, { force: true });
      throw writeError(error, file);
    }
  }

  async store(path: string, content: AsyncIterable<Uint8Array>, signal: AbortSignal | undefined): Promise<void> {
    const file = join(this.#root, path);
    await mkdir(dirname(file), { recursive: true });
    const name = temporary(file);
    try {
      await pipeline(Readable.from(content, { objectMode: false }), createWriteStream(name), signal === undefined ? {} : { signal });
      await rename(name, file);
    } catch (error) {
      await rm(name, { force: true });
      signal?.throwIfAborted();
      throw writeError(error, file);
    }
  }

  /** Changes of the index are one after the other in this process; between processes a lock file keeps them apart. */
  alone<T>(task: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(() => this.#locked(task));
    this.#turn = result.catch(() => {});
    return result;
  }

  async #locked<T>(task: () => Promise<T>): Promise<T> {
    await mkdir(this.#root, { recursive: true });
    const lock = join(this.#root, ".lock");
    for (let attempt = 0; ; attempt++) {
      try {
        await writeFile(lock, `${process.pid} ${hostname()}`, { flag: "wx" });
        break;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw writeError(error, lock);
        if (await this.#abandoned(lock)) continue;
        if (attempt > 600) throw new EstargzError("UNAVAILABLE", `another process has kept ${lock} for a minute: remove it if none runs`);
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
    try {
      return await task();
    } finally {
      await rm(lock, { force: true });
    }
  }

  /** Removes a lock whose process is gone. Of a process on another machine that shares the folder nothing can be said. */
  async #abandoned(lock: string): Promise<boolean> {
    const [owner = "0", machine = hostname()] = (await readFile(lock, "utf8").catch(() => "0")).split(" ", 2);
    const pid = machine === hostname() ? Number(owner) : 0;
    if (!Number.isInteger(pid) || pid <= 0 || pid === process.pid) return false;
    try {
      process.kill(pid, 0);
      return false;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") return false;
      await rm(lock, { force: true });
      return true;
    }
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

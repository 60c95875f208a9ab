import { mkdirSync, readdirSync } from "node:fs";
import { chmod, chown, mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { EstargzError } from "@estargz/interface";
import type { MappedOwner } from "./id-mapping.ts";

/** Options of {@link SnapshotDirectories}. */
export interface SnapshotDirectoriesOptions {
  readonly root: string;
  /** Called before every change of the file system; what it throws stops the change. For tests of crashes. */
  readonly beforeWrite?: ((what: string) => void) | undefined;
}

/** The directories of snapshots that have files of their own: `ROOT/snapshots/ID/{fs,work}`. */
export class SnapshotDirectories {
  readonly #folder: string;
  readonly #beforeWrite: (what: string) => void;

  constructor(options: SnapshotDirectoriesOptions) {
    this.#folder = join(options.root, "snapshots");
    this.#beforeWrite = options.beforeWrite ?? (() => {});
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
  }

  upper(id: number): string {
    return join(this.#folder, String(id), "fs");
  }

  work(id: number): string {
    return join(this.#folder, String(id), "work");
  }

  /** Makes the directories of a new snapshot. `owner` is who its root belongs to. */
  async create(id: number, writable: boolean, owner: MappedOwner | undefined): Promise<void> {
    const folder = join(this.#folder, String(id));
    try {
      await this.#make(folder, 0o700);
      const upper = this.upper(id);
      await this.#make(upper, 0o755);
      if (writable) await this.#make(this.work(id), 0o711);
      if (owner !== undefined && (owner.uid !== process.getuid?.() || owner.gid !== process.getgid?.())) {
        this.#beforeWrite(`chown ${upper}`);
        await chown(upper, owner.uid, owner.gid);
      }
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === "ENOSPC") {
        throw new EstargzError("NO_SPACE", `no space left for a snapshot below ${this.#folder}`, { cause: error });
      }
      throw error;
    }
  }

  async #make(path: string, mode: number): Promise<void> {
    this.#beforeWrite(`mkdir ${path}`);
    await mkdir(path, { mode });
    // mkdir's mode is cut by the umask.
    await chmod(path, mode);
  }

  /** Ids that have a directory. */
  async list(): Promise<number[]> {
    return idsOf(await readdir(this.#folder));
  }

  /** The same, at once: for the start, before anything is made. */
  present(): number[] {
    return idsOf(readdirSync(this.#folder));
  }

  /** Removes a snapshot's directories. Nothing there is no error. */
  async remove(id: number): Promise<void> {
    const folder = join(this.#folder, String(id));
    this.#beforeWrite(`rm ${folder}`);
    await rm(folder, { recursive: true, force: true });
  }
}

function idsOf(names: readonly string[]): number[] {
  return names.filter((name) => /^\d{1,15}$/.test(name)).map(Number);
}

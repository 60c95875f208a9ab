import { open } from "node:fs/promises";

/**
 * Syncs the store's write-ahead log shortly after a change, in the background: callers don't wait for the disk, and a
 * power cut loses at most the last moments.
 */
export class DelayedSync {
  readonly #path: string;
  readonly #delayMs: number;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();

  constructor(path: string, delayMs = 50) {
    this.#path = path;
    this.#delayMs = delayMs;
  }

  /** Says that something was written. */
  touch(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#running = this.#sync();
    }, this.#delayMs);
    this.#timer.unref();
  }

  async #sync(): Promise<void> {
    try {
      const file = await open(this.#path, "r");
      try {
        await file.datasync();
      } finally {
        await file.close();
      }
    } catch {
      // No log file (just checkpointed) or no disk: the store's own errors tell.
    }
  }

  /** Syncs what is outstanding. */
  async close(): Promise<void> {
    if (this.#timer !== undefined) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
      await this.#running;
      await this.#sync();
    }
    await this.#running;
  }
}

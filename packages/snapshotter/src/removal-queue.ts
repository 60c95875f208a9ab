import type { Logger } from "@estargz/interface";

/** Removes things in the background, one after the other, and lets callers wait for all of it. */
export class RemovalQueue {
  readonly #logger: Logger;
  #tail: Promise<void> = Promise.resolve();
  #pending = 0;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** Things that wait or are being removed. */
  get pending(): number {
    return this.#pending;
  }

  /** Adds a removal. A failing one is logged and left to the next clean-up. */
  add(what: string, remove: () => Promise<void>): void {
    this.#pending += 1;
    this.#tail = this.#tail.then(remove).then(
      () => {
        this.#pending -= 1;
      },
      (error: unknown) => {
        this.#pending -= 1;
        this.#logger.warn({ err: error, what }, `could not remove ${what}; the next clean-up tries again`);
      },
    );
  }

  /** Resolves when everything added so far is done. */
  async drain(): Promise<void> {
    await this.#tail;
  }
}

import type { Logger } from "@estargz/interface";

const RETRY_MS = 5000;

/** Whether the store takes bytes: for a while after an error nothing is fetched for it in the background. */
export class StoreHealth {
  readonly #logger: Logger;
  readonly #onChange: ((usable: boolean, code: string, directory: string) => void) | undefined;
  #degradedUntilMs = 0;
  #refused: { readonly code: string; readonly directory: string } | undefined;

  constructor(logger: Logger, onChange?: (usable: boolean, code: string, directory: string) => void) {
    this.#logger = logger;
    this.#onChange = onChange;
  }

  /** Whether it refused bytes lately: everything then comes from the source. */
  get isDegraded(): boolean {
    return performance.now() < this.#degradedUntilMs;
  }

  /** Bytes could not be kept. Said once, until some can. Gives the time until the next try, in milliseconds. */
  onError(code: string, directory: string): number {
    if (this.#refused === undefined) {
      this.#refused = { code, directory };
      this.#logger.warn({ code, directory }, `${reasonOf(code)}: layers are served from their source until it can be`);
      this.#onChange?.(false, code, directory);
    }
    this.#degradedUntilMs = performance.now() + RETRY_MS;
    return RETRY_MS;
  }

  /** Bytes were written. */
  onStored(): void {
    const refused = this.#refused;
    if (refused === undefined || this.isDegraded) return;
    this.#refused = undefined;
    this.#logger.info(refused, "the store can be written again");
    this.#onChange?.(true, refused.code, refused.directory);
  }
}

function reasonOf(code: string): string {
  if (code === "ENOSPC" || code === "EDQUOT") return "the disk is full";
  return code === "EROFS" ? "the disk is read-only" : "the store cannot be written";
}

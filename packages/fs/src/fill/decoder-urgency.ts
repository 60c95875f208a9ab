const CALM_MS = 100;

/** Raises the decoders' priority when somebody waits, and lowers it when nobody has waited for a moment. */
export class DecoderUrgency {
  readonly #set: (urgent: boolean) => void;
  readonly #isWaitedFor: () => boolean;
  #calmDown: NodeJS.Timeout | undefined;

  constructor(set: (urgent: boolean) => void, isWaitedFor: () => boolean) {
    this.#set = set;
    this.#isWaitedFor = isWaitedFor;
  }

  /** Somebody waits: the decoders are as good as anybody. */
  raise(): void {
    if (this.#calmDown === undefined) this.#set(true);
    clearTimeout(this.#calmDown);
    this.#calmDown = setTimeout(() => {
      this.#calmDown = undefined;
      if (this.#isWaitedFor()) this.raise();
      else this.#set(false);
    }, CALM_MS);
    this.#calmDown.unref();
  }

  /** Sets it again, for threads that were not there yet. */
  apply(): void {
    this.#set(this.#calmDown !== undefined);
  }

  close(): void {
    clearTimeout(this.#calmDown);
  }
}

/** Things to take away at the end, in reverse order, each one even when another fails. */
export interface Resources {
  /** Takes note of something; `release` runs at the end. */
  add(name: string, release: () => Promise<unknown>): void;
  /** Makes something and takes note of it, with no gap in which an interruption could lose it. */
  make<T>(name: string, create: () => Promise<T>, release: (made: T) => Promise<unknown>): Promise<T>;
  /** Takes everything away; gives what could not be. */
  release(): Promise<readonly string[]>;
}

/** An empty list. */
export function createResources(): Resources {
  const held: { readonly name: string; readonly release: () => Promise<unknown> }[] = [];
  return {
    add(name, release) {
      held.push({ name, release });
    },
    async make(name, create, release) {
      const pending = create();
      // Also when whoever waits gives up before it is there.
      held.push({ name, release: async () => pending.then(release, () => undefined) });
      return pending;
    },
    async release() {
      const failures: string[] = [];
      for (let last = held.pop(); last !== undefined; last = held.pop()) {
        try {
          await last.release();
        } catch (error) {
          failures.push(`${last.name}: ${error instanceof Error ? error.message : String(error)}`);
        }
      }
      return failures;
    },
  };
}

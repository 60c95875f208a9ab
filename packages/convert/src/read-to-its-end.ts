/** A stream that its reader may leave early without ending it. */
export interface WholeStream {
  /** To be read once. Leaving it early keeps the rest for {@link finish}. */
  readonly bytes: AsyncIterable<Uint8Array>;
  /** Reads what is left: a stream that verifies itself does so at its end. */
  finish(): Promise<void>;
  /** Ends the stream wherever it is. Idempotent. */
  close(): Promise<void>;
}

/**
 * Lets a reader stop at the end of what it understands (a tar's end) and still have the whole stream checked: a digest is
 * compared after the last byte only.
 */
export function readToItsEnd(stream: AsyncIterable<Uint8Array>): WholeStream {
  const iterator = stream[Symbol.asyncIterator]();
  let failure: { readonly error: unknown } | undefined;
  const next = async (): Promise<IteratorResult<Uint8Array>> => {
    try {
      return await iterator.next();
    } catch (error) {
      // A reader that has what it wants may not care; whoever wants the whole stream does.
      failure ??= { error };
      throw error;
    }
  };
  return {
    bytes: { [Symbol.asyncIterator]: () => ({ next }) },
    async finish() {
      let last: IteratorResult<Uint8Array> | undefined;
      while (last?.done !== true && failure === undefined) last = await next();
      if (failure !== undefined) throw failure.error;
    },
    async close() {
      await iterator.return?.();
    },
  };
}

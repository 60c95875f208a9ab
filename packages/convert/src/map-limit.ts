/**
 * Maps values with a bound on how many are in work at once; results in order. The first failure stops the rest: its
 * signal is aborted and they are waited for.
 */
export async function mapLimit<T, R>(
  values: readonly T[],
  limit: number,
  work: (value: T, index: number, signal: AbortSignal) => Promise<R>,
  signal?: AbortSignal,
): Promise<R[]> {
  signal?.throwIfAborted();
  const controller = new AbortController();
  const inner = signal === undefined ? controller.signal : AbortSignal.any([signal, controller.signal]);
  const results: R[] = [];
  let next = 0;
  const runner = async (): Promise<void> => {
    while (next < values.length) {
      inner.throwIfAborted();
      const index = next;
      next += 1;
      results[index] = await work(values[index] as T, index, inner);
    }
  };
  const runners = Array.from({ length: Math.min(limit, values.length) }, async () => {
    try {
      await runner();
    } catch (error) {
      controller.abort(error);
      throw error;
    }
  });
  const settled = await Promise.allSettled(runners);
  signal?.throwIfAborted();
  if (controller.signal.aborted) throw controller.signal.reason;
  const failed = settled.find((result) => result.status === "rejected");
  if (failed !== undefined) throw failed.reason;
  return results;
}

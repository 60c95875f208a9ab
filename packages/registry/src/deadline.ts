import { type Clock, EstargzError } from "@estargz/interface";

/**
 * Runs a task with a signal of its own, which follows `signal` and is aborted with a `TIMEOUT` error after `ms`.
 * The timer is gone when the task has ended.
 */
export async function withDeadline<T>(
  options: { readonly clock: Clock; readonly ms: number; readonly signal?: AbortSignal | undefined; readonly what: string },
  task: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const { clock, ms, signal, what } = options;
  signal?.throwIfAborted();
  const controller = new AbortController();
  const done = new AbortController();
  const follow = (): void => controller.abort(signal?.reason);
  signal?.addEventListener("abort", follow, { once: true });
  clock.sleep(ms, done.signal).then(
    () => controller.abort(new EstargzError("TIMEOUT", `${what} took longer than ${ms / 1000} s`, { details: { deadlineMs: ms } })),
    () => {},
  );
  try {
    return await task(controller.signal);
  } finally {
    signal?.removeEventListener("abort", follow);
    done.abort();
  }
}

import { libc } from "./libc.ts";

const SCHED_FIFO = 1;
const SCHED_RESET_ON_FORK = 0x4000_0000;

/**
 * Lets the calling thread run before all ordinary ones as soon as it has something to do. For threads that only answer, and sleep
 * in between: an ordinary one that has used its share of the processor lately waits up to 5 ms behind whoever runs, however
 * nice that is.
 *
 * @returns false where that is not permitted (without CAP_SYS_NICE, or in a control group without real-time budget).
 */
export function runAtOnce(): boolean {
  const { schedSetscheduler } = libc();
  return schedSetscheduler?.(0, SCHED_FIFO | SCHED_RESET_ON_FORK, Int32Array.of(1)) === 0;
}

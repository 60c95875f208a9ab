import type { ServedConnection } from "./served-connection.ts";

/** A READ that a disk is bringing the bytes of. */
export interface DiskRead {
  readonly connection: ServedConnection;
  readonly request: Uint8Array;
  /** When its handling began (performance.now()). */
  readonly started: number;
  readonly attempt: number;
}

/** Reads at a time that are tried again; with more, a thread waits for the oldest. */
export const MAX_DISK_READS = 32;
/** Tries to read a request between two looks at a disk read. */
export const SPINS_BETWEEN_LOOKS = 4;

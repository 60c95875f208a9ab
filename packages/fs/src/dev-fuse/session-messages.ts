import type { MissRequest } from "./request-handler.ts";
import type { ConnectionMessage } from "./served-connection.ts";
import type { LayerMessage } from "./served-layer.ts";

/** What a worker is started with. */
export interface SessionStart {
  readonly control: SharedArrayBuffer;
  readonly statistics: SharedArrayBuffer;
  /** Number of this worker. */
  readonly worker: number;
  readonly eventfd: number;
  /** Workers that look for requests at a time. */
  readonly leaders: number;
  /** Tries to read the next request before sleeping. */
  readonly spins: number;
  /** Whether it runs before all ordinary threads, if that is permitted. */
  readonly realTime: boolean;
}

/** From the main thread to a worker. */
export type ToSession =
  | { readonly type: "connection"; readonly connection: ConnectionMessage; readonly ticket: number }
  | { readonly type: "attach"; readonly key: string; readonly layer: LayerMessage; readonly ticket: number }
  | { readonly type: "hide"; readonly key: string; readonly layer: number; readonly ticket: number }
  | { readonly type: "remove"; readonly key: string; readonly layer: number }
  | { readonly type: "ready"; readonly ticket: number }
  | { readonly type: "retry"; readonly key: string; readonly request: MissRequest };

/** From a worker to the main thread. */
export type FromSession =
  | { readonly type: "done"; readonly ticket: number }
  | { readonly type: "miss"; readonly key: string; readonly request: MissRequest }
  | { readonly type: "open"; readonly key: string; readonly request: MissRequest }
  | { readonly type: "release"; readonly key: string; readonly request: MissRequest }
  | { readonly type: "interrupt"; readonly key: string; readonly low: number; readonly high: number }
  | { readonly type: "forgotten"; readonly key: string; readonly worker: number; readonly layer: number; readonly lookups: number }
  | { readonly type: "disconnected"; readonly key: string };

/** Words of the control memory that all workers share with the main thread. */
export const ControlWord = {
  /** 1: workers end. */
  STOP: 0,
  /** 1 while one worker is looking for requests without sleeping. */
  SPINNING: 1,
  /** Requests that the main thread has in hand. */
  OUTSTANDING: 2,
  /** Workers that look for requests now. The others wait for this to become less, or wait for a disk. */
  LEADERS: 3,
  /** Counts up when a worker that waits has something to do. */
  CALLS: 4,
  /** From here on one word a worker: 1 when messages wait for it. */
  MAIL: 8,
} as const;

/** Most workers of a driver. */
export const MAX_WORKERS = 16;
/** Size of the control memory. */
export const CONTROL_BYTES: number = (ControlWord.MAIL + MAX_WORKERS) * 4;

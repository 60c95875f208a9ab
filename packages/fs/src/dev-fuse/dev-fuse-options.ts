import { accessSync, constants } from "node:fs";
import { availableParallelism } from "node:os";
import { isAbsolute, join } from "node:path";
import { EstargzError, type Logger, noLogger } from "@estargz/interface";
import type { KeeperOptions } from "../keeper/keeper-client.ts";
import { MAX_WORKERS } from "./session-messages.ts";

/** Options of `createDevFuseDriver`. */
export interface DevFuseDriverOptions {
  /** Absolute path of the directory that mounts are made in. Short: every overlay option names it once a layer. */
  readonly mountRoot: string;
  /** Where the driver keeps its keeper's socket and the record of open files. Without it mounts end with the process. */
  readonly stateDirectory?: string | undefined;
  /**
   * Who holds the mounts while no daemon runs. Default: a keeper that listens on `keeper.sock` in `stateDirectory`, started
   * when there is none; `false` for none.
   */
  readonly keeper?: KeeperOptions | false | undefined;
  /** Threads that look for requests at a time, 1 to 16. Default: one for two processors, at most 4. */
  readonly workers?: number | undefined;
  /** Threads that take the place of one that waits for the disk, 0 to 15. Each takes 14 MB. Default 1. */
  readonly spareWorkers?: number | undefined;
  /** Tries to read the next request before a thread sleeps. Default 100; 0 on a machine with one processor. */
  readonly spins?: number | undefined;
  /**
   * Whether the threads have the lowest real-time priority, where that is permitted (root). They sleep except while they answer a
   * request; without it, whoever reads waits up to 5 ms for them when all processors are busy. Default true on machines with more
   * than one processor.
   */
  readonly realTime?: boolean | undefined;
  /**
   * Whether the kernel reads big, wholly local files by itself: `auto` in layers that are mostly made of such files,
   * `off` never. Needs Linux 6.9 and root. Default `auto`.
   */
  readonly passthrough?: "auto" | "off" | undefined;
  /** `direct` mounts as root, `fusermount` through fusermount3. Default by user. */
  readonly method?: "direct" | "fusermount" | undefined;
  /** Whether other users may read. Without root, `user_allow_other` in /etc/fuse.conf is needed. Default true for root only. */
  readonly allowOther?: boolean | undefined;
  readonly logger?: Logger | undefined;
  /**
   * Whether the kernel is asked to send again what a former process had read and not answered (Linux 6.9). `false` shows
   * what older kernels do. Default true.
   */
  readonly resend?: boolean | undefined;
  /**
   * Called when a thread ended by itself. Requests it had in hand wait for the next process, and layers can be neither attached nor
   * detached any more (`UNAVAILABLE`): restart. Default: logged.
   */
  readonly onFailure?: ((error: Error) => void) | undefined;
}

/** Options with every default filled in. */
export interface ResolvedOptions {
  readonly mountRoot: string;
  readonly stateDirectory: string | undefined;
  readonly keeper: KeeperOptions | undefined;
  readonly workers: number;
  readonly spares: number;
  readonly spins: number;
  readonly realTime: boolean;
  readonly passthrough: boolean;
  readonly method: "direct" | "fusermount";
  readonly allowOther: boolean;
  readonly logger: Logger;
  readonly resend: boolean;
  readonly onFailure: (error: Error) => void;
}

/**
 * Checks options and fills in defaults.
 *
 * @throws `INVALID_ARGUMENT` with the option's name, value and bounds.
 */
export function resolveOptions(options: DevFuseDriverOptions): ResolvedOptions {
  const { mountRoot, stateDirectory, keeper } = options;
  if (!isAbsolute(mountRoot))
    throw new EstargzError("INVALID_ARGUMENT", `mountRoot is ${JSON.stringify(mountRoot)}, an absolute path is needed`);
  const processors = availableParallelism();
  const isRoot = process.getuid?.() === 0;
  const logger = options.logger ?? noLogger;
  return {
    mountRoot,
    stateDirectory,
    keeper:
      keeper === false
        ? undefined
        : (keeper ?? (stateDirectory === undefined ? undefined : { socketPath: join(stateDirectory, "keeper.sock") })),
    workers: bounded("workers", options.workers ?? Math.max(1, Math.min(4, processors >> 1)), 1, MAX_WORKERS),
    spares: bounded("spareWorkers", options.spareWorkers ?? 1, 0, MAX_WORKERS - 1),
    realTime: options.realTime ?? processors > 1,
    spins: bounded("spins", options.spins ?? (processors > 1 ? 100 : 0), 0, 100_000),
    passthrough: options.passthrough !== "off" && isRoot,
    method: options.method ?? (isRoot ? "direct" : "fusermount"),
    allowOther: options.allowOther ?? isRoot,
    logger,
    resend: options.resend ?? true,
    onFailure: options.onFailure ?? ((error) => logger.error({ err: error }, "a thread of the file system ended: restart the process")),
  };
}

function bounded(name: string, value: number, least: number, most: number): number {
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw new EstargzError("INVALID_ARGUMENT", `${name} is ${value}, allowed are whole numbers from ${least} to ${most}`);
}

/** Says whether this process can speak to /dev/fuse: it is there and may be opened. */
export function isDevFuseUsable(): boolean {
  try {
    accessSync("/dev/fuse", constants.R_OK | constants.W_OK);
    return process.platform === "linux";
  } catch {
    return false;
  }
}

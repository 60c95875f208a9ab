import { availableParallelism } from "node:os";
import { EstargzError } from "@estargz/interface";

/** What is fetched that nobody asked for: nothing, the rest of each layer while nobody reads, or all the time. */
export type BackgroundPolicy = "off" | "idle" | "full";

/** Options of the fill scheduler. */
export interface FillOptions {
  /** Default `idle`. */
  readonly background?: BackgroundPolicy | undefined;
  /** With `idle`, how long nobody must have waited for bytes. Default 2,000. */
  readonly idleMs?: number | undefined;
  /** How long a read waits for a source that gives nothing, before EIO. Default 30,000. */
  readonly sourceTimeoutMs?: number | undefined;
  /** A request that brings no byte for this long is given up and asked again. Default 10,000. */
  readonly stallTimeoutMs?: number | undefined;
  /** Requests at a time for reads that somebody waits for, over all layers. Default 32. */
  readonly maxDemandRequests?: number | undefined;
  /** The same for one layer. Default 8. */
  readonly maxDemandRequestsPerLayer?: number | undefined;
  /** Requests at a time of prefetch and background. Default 2. */
  readonly maxBackgroundRequests?: number | undefined;
  /** Bytes of one background request. Default 8 MiB. */
  readonly backgroundRequestBytes?: number | undefined;
  /** Bytes on their way, over which background requests wait. Default 64 MiB. */
  readonly memoryBytes?: number | undefined;
  /** Bytes that the disk does not take (full, read-only), held in memory for whoever reads on in them, over all layers. Default 32 MiB. */
  readonly unstoredBytes?: number | undefined;
  /** Gap between wanted ranges that is fetched rather than asked around. Default 64 KiB. */
  readonly maxGapBytes?: number | undefined;
  /** What a miss in a small file takes along from behind it, in compressed bytes. Default 64 KiB. */
  readonly neighbourBytes?: number | undefined;
  /** Most that is fetched ahead of a forward read, in compressed bytes. Default 8 MiB. */
  readonly readAheadBytes?: number | undefined;
  /** Threads that decompress and verify. Default: one for each processor, at least 2, at most 8. */
  readonly decoderThreads?: number | undefined;
  /** Niceness of these threads while nobody waits for what they do, 0 to 19; for root only. Default 15. */
  readonly decoderNice?: number | undefined;
  /** Threads that open layers, decompress and verify end when there was nothing for them to do for this long. Default 60,000. */
  readonly threadIdleMs?: number | undefined;
  /** Whether gzip is decompressed by the system's libdeflate (Debian: libdeflate0), if there is one; else by zlib. Default true. */
  readonly libdeflate?: boolean | undefined;
}

/** {@link FillOptions} with every default filled in. */
export type FillSettings = { readonly [Key in keyof Required<FillOptions>]: NonNullable<FillOptions[Key]> };

const MAX_REQUEST_BYTES = 1024 * 1024 * 1024;

/**
 * Fills in defaults and checks bounds.
 *
 * @throws `INVALID_ARGUMENT` that names option, value and bounds.
 */
export function fillSettings(options: FillOptions = {}): FillSettings {
  const background = options.background ?? "idle";
  if (!["off", "idle", "full"].includes(background))
    throw new EstargzError("INVALID_ARGUMENT", `background is ${background}; use off, idle or full`);
  return {
    background,
    idleMs: within("idleMs", options.idleMs ?? 2000, 0, 3_600_000),
    sourceTimeoutMs: within("sourceTimeoutMs", options.sourceTimeoutMs ?? 30_000, 10, 3_600_000),
    stallTimeoutMs: within("stallTimeoutMs", options.stallTimeoutMs ?? 10_000, 10, 3_600_000),
    maxDemandRequests: within("maxDemandRequests", options.maxDemandRequests ?? 32, 1, 1024),
    maxDemandRequestsPerLayer: within("maxDemandRequestsPerLayer", options.maxDemandRequestsPerLayer ?? 8, 1, 1024),
    maxBackgroundRequests: within("maxBackgroundRequests", options.maxBackgroundRequests ?? 2, 1, 64),
    backgroundRequestBytes: within("backgroundRequestBytes", options.backgroundRequestBytes ?? 8 * 1024 * 1024, 4096, MAX_REQUEST_BYTES),
    memoryBytes: within("memoryBytes", options.memoryBytes ?? 64 * 1024 * 1024, 4096, Number.MAX_SAFE_INTEGER),
    unstoredBytes: within("unstoredBytes", options.unstoredBytes ?? 32 * 1024 * 1024, 0, Number.MAX_SAFE_INTEGER),
    maxGapBytes: within("maxGapBytes", options.maxGapBytes ?? 64 * 1024, 0, MAX_REQUEST_BYTES),
    neighbourBytes: within("neighbourBytes", options.neighbourBytes ?? 64 * 1024, 0, MAX_REQUEST_BYTES),
    readAheadBytes: within("readAheadBytes", options.readAheadBytes ?? 8 * 1024 * 1024, 0, MAX_REQUEST_BYTES),
    decoderThreads: within("decoderThreads", options.decoderThreads ?? Math.min(8, Math.max(2, availableParallelism())), 1, 128),
    decoderNice: within("decoderNice", options.decoderNice ?? 15, 0, 19),
    threadIdleMs: within("threadIdleMs", options.threadIdleMs ?? 60_000, 1, 86_400_000),
    libdeflate: options.libdeflate ?? true,
  };
}

function within(name: string, value: number, low: number, high: number): number {
  if (Number.isFinite(value) && value >= low && value <= high) return value;
  throw new EstargzError("INVALID_ARGUMENT", `${name} is ${value}; it has to be between ${low} and ${high}`);
}

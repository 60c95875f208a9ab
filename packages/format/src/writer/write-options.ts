import { EstargzError } from "@estargz/interface";

/** A file as a chunking function sees it. */
export interface ChunkedFile {
  /** Path without leading or trailing slash. */
  readonly path: string;
  /** Size in bytes; at least 1. */
  readonly size: number;
}

/**
 * Says how a file is cut: a number is the size of its chunks, a list the places where new chunks start (ascending, inside of the
 * file), `undefined` the default of 4 MiB.
 */
export type ChunkingFunction = (file: ChunkedFile) => number | readonly number[] | undefined;

/** Options of writing a layer. */
export interface WriteLayerOptions {
  /** `zstd` writes zstd:chunked. Default `gzip`, eStargz. */
  readonly compression?: "gzip" | "zstd" | undefined;
  /** 0 to 9 for gzip, default 6; 1 to 22 for zstd, default 3. */
  readonly level?: number | undefined;
  /** Most bytes of a chunk, or a function that says it file by file. Default 4 MiB. */
  readonly chunkSizeBytes?: number | ChunkingFunction | undefined;
  /**
   * Uncompressed bytes that a member holds before the next one is begun, so that small files share one. Snapshotters before 0.13
   * can't read such layers. Default 0: a member for each chunk.
   */
  readonly minMemberBytes?: number | undefined;
  /** Paths to put in front, in this order, with their parents and link targets. Default none. */
  readonly prioritizedFiles?: readonly string[] | undefined;
  /** Lists prioritised paths that don't exist in the result instead of failing. Default false. */
  readonly allowMissingFiles?: boolean | undefined;
  /** Stores the TOC in a blob of its own. gzip only. Default false. */
  readonly externalToc?: boolean | undefined;
  /**
   * Keeps every byte of the tar: no landmark, no new order. The DiffID stays, too, with `externalToc` or `zstd`, where the TOC is no part
   * of the tar. Default false.
   */
  readonly lossless?: boolean | undefined;
  /** Threads that compress. The bytes don't depend on it. Default: as many as there are cores (1 where the runtime has no threads). */
  readonly threads?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Options with defaults filled in. */
export interface ResolvedWriteOptions {
  readonly compression: "gzip" | "zstd";
  readonly level: number;
  readonly chunking: ChunkingFunction;
  readonly minMemberBytes: number;
  readonly prioritizedFiles: readonly string[];
  readonly allowMissingFiles: boolean;
  readonly externalToc: boolean;
  readonly lossless: boolean;
  readonly threads: number | undefined;
  readonly signal: AbortSignal | undefined;
}

/** Size of chunks by default, as in the reference. */
const DEFAULT_CHUNK_BYTES: number = 4 << 20;
const MAX_CHUNK_BYTES = 128 << 20;

/**
 * Checks options.
 *
 * @throws {@link EstargzError} `INVALID_ARGUMENT` with the option's name, value and bounds.
 */
export function resolveWriteOptions(options: WriteLayerOptions): ResolvedWriteOptions {
  const compression = options.compression ?? "gzip";
  const { chunkSizeBytes } = options;
  const lossless = options.lossless ?? false;
  const externalToc = options.externalToc ?? false;
  const prioritizedFiles = options.prioritizedFiles ?? [];
  if (externalToc && compression === "zstd")
    throw invalid("externalToc", "true", "it needs gzip: the TOC of zstd:chunked is no part of the tar anyway");
  if (lossless && prioritizedFiles.length > 0) throw invalid("prioritizedFiles", "set", "a lossless layer keeps its order");
  return {
    compression,
    level: compression === "gzip" ? integer("level", options.level ?? 6, 0, 9) : integer("level", options.level ?? 3, 1, 22),
    chunking:
      typeof chunkSizeBytes === "function"
        ? chunkSizeBytes
        : fixedChunks(integer("chunkSizeBytes", chunkSizeBytes ?? DEFAULT_CHUNK_BYTES, 1, MAX_CHUNK_BYTES)),
    minMemberBytes: integer("minMemberBytes", options.minMemberBytes ?? 0, 0, MAX_CHUNK_BYTES),
    prioritizedFiles,
    allowMissingFiles: options.allowMissingFiles ?? false,
    externalToc,
    lossless,
    threads: options.threads === undefined ? undefined : integer("threads", options.threads, 1, 1024),
    signal: options.signal,
  };
}

function fixedChunks(size: number): ChunkingFunction {
  return () => size;
}

function integer(name: string, value: number, min: number, max: number): number {
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  throw invalid(name, String(value), `it has to be an integer from ${min} to ${max}`);
}

function invalid(name: string, value: string, reason: string): EstargzError {
  return new EstargzError("INVALID_ARGUMENT", `option ${name} is ${value}; ${reason}`);
}

/** How a file is cut. */
export interface ChunkPlan {
  readonly lengths: readonly number[];
  /** Size of all chunks but perhaps the last; `undefined` for cuts of a caller's own. */
  readonly size: number | undefined;
}

/**
 * Plans a file's chunks.
 *
 * @throws {@link EstargzError} `INVALID_ARGUMENT` for places that aren't ascending integers inside of the file, or chunks above 128 MiB.
 */
export function planChunks(file: ChunkedFile, chunking: ChunkingFunction): ChunkPlan {
  const plan = chunking(file) ?? DEFAULT_CHUNK_BYTES;
  const lengths: number[] = [];
  if (typeof plan === "number") {
    const size = integer("chunkSizeBytes", plan, 1, MAX_CHUNK_BYTES);
    for (let at = 0; at < file.size; at += size) lengths.push(Math.min(size, file.size - at));
    return { lengths, size };
  }
  let at = 0;
  for (const cut of [...plan, file.size]) {
    if (!Number.isInteger(cut) || cut <= at || cut > file.size) {
      throw invalid(
        "chunkSizeBytes",
        `a cut at ${cut} in ${JSON.stringify(file.path)}`,
        `cuts have to ascend inside of its ${file.size} bytes`,
      );
    }
    // A caller's pieces may be larger than what readers take.
    for (; cut - at > MAX_CHUNK_BYTES; at += MAX_CHUNK_BYTES) lengths.push(MAX_CHUNK_BYTES);
    lengths.push(cut - at);
    at = cut;
  }
  return { lengths, size: undefined };
}

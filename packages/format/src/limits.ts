import { EstargzError } from "@estargz/interface";

/** Bounds on everything untrusted in a layer. Passing one is refused with `LIMIT_EXCEEDED`. */
export interface LayerLimits {
  /** Compressed bytes of the TOC. Default 64 MiB. */
  readonly maxTocPackedBytes: number;
  /** Bytes of the TOC's JSON. Default 256 MiB. */
  readonly maxTocBytes: number;
  /** JSON bytes for one compressed byte of the TOC. Default 500. */
  readonly maxTocRatio: number;
  /** TOC entries, chunk entries included, and directories that are implied. Default 2,000,000. */
  readonly maxEntries: number;
  /** UTF-8 bytes of a path. Default 4096. */
  readonly maxPathBytes: number;
  /** UTF-8 bytes of one component of a path. Default 255. */
  readonly maxNameBytes: number;
  /** Components of a path. Default 256. */
  readonly maxPathDepth: number;
  /** Bytes of all extended attributes of an entry, names included. Default 128 KiB. */
  readonly maxXattrBytes: number;
  /** Uncompressed bytes of a chunk. Default 128 MiB. */
  readonly maxChunkBytes: number;
  /** Bytes to skip in a member before a chunk starts. Default 128 MiB. */
  readonly maxInnerOffset: number;
}

/** Defaults of {@link LayerLimits}. */
export const DEFAULT_LIMITS: LayerLimits = {
  maxTocPackedBytes: 64 << 20,
  maxTocBytes: 256 << 20,
  maxTocRatio: 500,
  maxEntries: 2_000_000,
  maxPathBytes: 4096,
  maxNameBytes: 255,
  maxPathDepth: 256,
  maxXattrBytes: 128 << 10,
  maxChunkBytes: 128 << 20,
  maxInnerOffset: 128 << 20,
};

/**
 * Fills up limits with the defaults.
 *
 * @throws {@link EstargzError} `INVALID_ARGUMENT` for anything but positive safe integers.
 */
export function resolveLimits(limits: Partial<LayerLimits> | undefined): LayerLimits {
  const resolved: Record<string, number> = { ...DEFAULT_LIMITS };
  for (const [name, value] of Object.entries(limits ?? {})) {
    if (value === undefined) continue;
    if (!(name in DEFAULT_LIMITS) || !Number.isSafeInteger(value) || value < 1) {
      throw new EstargzError("INVALID_ARGUMENT", `limit ${name} is ${value}; it has to be a known limit and a positive integer`);
    }
    resolved[name] = value;
  }
  return resolved as unknown as LayerLimits;
}

/** Throws `LIMIT_EXCEEDED` if `value` is above `limit`. */
export function checkLimit(name: keyof LayerLimits, value: number, limits: LayerLimits, subject: string): void {
  const limit = limits[name];
  if (value <= limit) return;
  throw new EstargzError(
    "LIMIT_EXCEEDED",
    `${subject}: ${value} is above the limit ${name} of ${limit}; raise limits.${name} to allow it`,
    {
      details: { limit: name, value, maximum: limit },
    },
  );
}

/**
 * Stable codes of the errors that estargz packages throw. A code is part of the public interface: it is
 * translated to an errno in `@estargz/fs` and to a gRPC status in `@estargz/snapshotter`, in one table each.
 */
export type ErrorCode =
  // a deadline of ours passed (a caller's abort surfaces as its own reason instead)
  | "TIMEOUT"
  // arguments and options
  | "INVALID_ARGUMENT"
  | "INVALID_DIGEST"
  | "INVALID_REFERENCE"
  | "INVALID_CONFIG"
  // bytes
  | "OUT_OF_RANGE"
  | "SHORT_READ"
  | "DIGEST_MISMATCH"
  | "LIMIT_EXCEEDED"
  | "UNSUPPORTED"
  // layers
  | "NOT_ESTARGZ"
  | "INVALID_FOOTER"
  | "INVALID_TOC"
  | "INVALID_TAR"
  | "INVALID_COMPRESSION"
  | "UNVERIFIED"
  // registries and other sources
  | "UNAUTHORIZED"
  | "FORBIDDEN"
  | "NOT_FOUND"
  | "RANGE_UNSUPPORTED"
  | "RATE_LIMITED"
  | "INVALID_RESPONSE"
  | "REGISTRY_UNAVAILABLE"
  | "PUSH_REJECTED"
  // snapshots
  | "ALREADY_EXISTS"
  | "FAILED_PRECONDITION"
  | "UNAVAILABLE"
  // this machine
  | "IO_ERROR"
  | "NO_SPACE"
  | "PERMISSION_DENIED"
  | "MOUNT_FAILED"
  | "CLOSED";

/** Values attached to an error that are safe to log: never credentials, headers or signed URLs. */
export type ErrorDetails = Readonly<Record<string, string | number | boolean | undefined>>;

/** Options of {@link EstargzError}. */
export interface EstargzErrorOptions {
  /** What led to this error; always kept. */
  readonly cause?: unknown;
  /** Values that are safe to log. */
  readonly details?: ErrorDetails | undefined;
}

const BRAND = Symbol.for("@estargz/error");

/** The error of every estargz package. Told apart by `code`, never by class or message. */
export class EstargzError extends Error {
  override readonly name: string = "EstargzError";
  readonly code: ErrorCode;
  readonly details: ErrorDetails;

  constructor(code: ErrorCode, message: string, options: EstargzErrorOptions = {}) {
    super(message, "cause" in options ? { cause: options.cause } : undefined);
    this.code = code;
    this.details = options.details ?? {};
    // Recognised across copies of this package by isEstargzError.
    Object.defineProperty(this, BRAND, { value: true });
  }
}

/**
 * Says whether `error` is an {@link EstargzError}, of one of `codes` if any are given. Works across several
 * installed copies of this package.
 */
export function isEstargzError(error: unknown, ...codes: readonly ErrorCode[]): error is EstargzError {
  if (typeof error !== "object" || error === null || !(BRAND in error)) return false;
  return codes.length === 0 || codes.includes((error as unknown as EstargzError).code);
}

import { isEstargzError } from "@estargz/interface";
import { RegistryError } from "../registry-error.ts";

/** How failed requests are repeated. */
export interface RetryOptions {
  /** Attempts without any progress before giving up. Default 5. */
  readonly maxAttempts?: number | undefined;
  /** Longest wait before the first repetition, in milliseconds; doubles each time. Default 100. */
  readonly minDelayMs?: number | undefined;
  /** Longest wait, in milliseconds. Default 10,000. */
  readonly maxDelayMs?: number | undefined;
  /** Longest `Retry-After` that is waited for, in milliseconds; a longer one is an error at once. Default 60,000. */
  readonly maxRetryAfterMs?: number | undefined;
}

/** {@link RetryOptions} with every default filled in. */
export type RetryPolicy = { readonly [K in keyof RetryOptions]-?: NonNullable<RetryOptions[K]> };

export function retryPolicy(options: RetryOptions = {}): RetryPolicy {
  return {
    maxAttempts: options.maxAttempts ?? 5,
    minDelayMs: options.minDelayMs ?? 100,
    maxDelayMs: options.maxDelayMs ?? 10_000,
    maxRetryAfterMs: options.maxRetryAfterMs ?? 60_000,
  };
}

/** Errors of TLS and names that another attempt does not mend. */
const LASTING = /^(?:CERT_|DEPTH_ZERO_|SELF_SIGNED|UNABLE_TO_|ERR_TLS_|ERR_SSL_|EACCES|ERR_INVALID)/;

function causeCode(error: unknown): string {
  for (let at: unknown = error, depth = 0; depth < 5 && typeof at === "object" && at !== null; depth++) {
    if ("code" in at && typeof at.code === "string" && !isEstargzError(at)) return at.code;
    at = "cause" in at ? at.cause : undefined;
  }
  return "";
}

/** Says whether another attempt may do better. */
export function isRetryable(error: unknown): boolean {
  if (error instanceof RegistryError)
    return error.status !== 501 && error.status !== 505 && isEstargzError(error, "RATE_LIMITED", "REGISTRY_UNAVAILABLE");
  if (isEstargzError(error, "REGISTRY_UNAVAILABLE", "TIMEOUT")) return !LASTING.test(causeCode(error));
  return isEstargzError(error, "SHORT_READ", "INVALID_RESPONSE");
}

/**
 * How long to wait before attempt `attempt` (1 is the first repetition), with full jitter; `undefined`: give up.
 * A server's `Retry-After` is a lower bound.
 */
export function retryDelayMs(attempt: number, error: unknown, policy: RetryPolicy, random: () => number): number | undefined {
  // Nonsense is asked for once more: one of several servers behind a name may be at fault.
  const attempts = isEstargzError(error, "INVALID_RESPONSE") ? Math.min(2, policy.maxAttempts) : policy.maxAttempts;
  if (!isRetryable(error) || attempt >= attempts) return undefined;
  const ceiling = Math.min(policy.maxDelayMs, policy.minDelayMs * 2 ** (attempt - 1));
  const asked = error instanceof RegistryError ? error.retryAfterMs : undefined;
  if (asked === undefined) return ceiling * random();
  if (asked > policy.maxRetryAfterMs) return undefined;
  return asked + (ceiling / 2) * random();
}

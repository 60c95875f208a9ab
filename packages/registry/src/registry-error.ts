import { type ErrorCode, EstargzError } from "@estargz/interface";

/** An error that a registry answered with. */
export class RegistryError extends EstargzError {
  /** HTTP status of the answer. */
  readonly status: number;
  /** Codes of the distribution specification in the answer, like `MANIFEST_UNKNOWN`. */
  readonly registryCodes: readonly string[];
  /** How long the registry asked to wait, in milliseconds. */
  readonly retryAfterMs: number | undefined;

  constructor(
    code: ErrorCode,
    message: string,
    options: {
      readonly status: number;
      readonly host: string;
      readonly registryCodes?: readonly string[];
      readonly retryAfterMs?: number | undefined;
    },
  ) {
    super(code, message, { details: { status: options.status, host: options.host, registryCodes: options.registryCodes?.join(",") } });
    this.status = options.status;
    this.registryCodes = options.registryCodes ?? [];
    this.retryAfterMs = options.retryAfterMs;
  }
}

const CODE = /^[A-Z_]{2,40}$/;

/** Codes of the specification's error body; never its free text, which may hold anything. */
export function parseRegistryCodes(body: Uint8Array): string[] {
  if (body.length === 0 || body[0] !== 0x7b) return [];
  try {
    const value = JSON.parse(Buffer.from(body.buffer, body.byteOffset, body.length).toString("utf8")) as { errors?: unknown };
    if (!Array.isArray(value.errors)) return [];
    return value.errors
      .slice(0, 8)
      .map((error: unknown) => (typeof error === "object" && error !== null && "code" in error ? error.code : undefined))
      .filter((code): code is string => typeof code === "string" && CODE.test(code));
  } catch {
    return [];
  }
}

/** Waiting time of a Retry-After header (seconds or a date), in milliseconds. */
export function parseRetryAfter(text: string | undefined, nowMs: number): number | undefined {
  if (text === undefined) return undefined;
  if (/^\s*\d{1,9}(?:\.\d+)?\s*$/.test(text)) return Number(text) * 1000;
  const date = Date.parse(text);
  return Number.isNaN(date) ? undefined : Math.max(0, date - nowMs);
}

function codeOf(status: number): ErrorCode {
  if (status === 401) return "UNAUTHORIZED";
  if (status === 403) return "FORBIDDEN";
  if (status === 404 || status === 410) return "NOT_FOUND";
  if (status === 416) return "OUT_OF_RANGE";
  if (status === 429) return "RATE_LIMITED";
  if (status === 408 || status === 425 || status >= 500) return "REGISTRY_UNAVAILABLE";
  return "INVALID_RESPONSE";
}

/** Makes the error for an answer that is not what was asked for. */
export function answerError(options: {
  readonly status: number;
  readonly host: string;
  readonly what: string;
  readonly body?: Uint8Array | undefined;
  readonly retryAfter?: string | undefined;
  readonly nowMs: number;
}): RegistryError {
  const { status, host, what } = options;
  const registryCodes = options.body === undefined ? [] : parseRegistryCodes(options.body);
  const said = registryCodes.length === 0 ? "" : ` (${registryCodes.join(", ")})`;
  const retryAfterMs = parseRetryAfter(options.retryAfter, options.nowMs);
  return new RegistryError(codeOf(status), `${host} answered ${status}${said} to ${what}`, { status, host, registryCodes, retryAfterMs });
}

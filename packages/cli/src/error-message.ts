import { type ErrorCode, isEstargzError } from "@estargz/interface";

/** What to do about an error, where its message cannot know it: one short sentence each. */
const HINTS: Partial<Record<ErrorCode, string>> = {
  UNAUTHORIZED: "log in first (docker login HOST); credentials are read from ~/.docker/config.json",
  FORBIDDEN: "the credentials in use have no right to this repository",
  NOT_FOUND: "check the image's name and tag",
  REGISTRY_UNAVAILABLE: "check the network and the registry's name; for a registry without TLS add --plain-http",
  RATE_LIMITED: "wait, or log in to get a higher limit",
  NOT_ESTARGZ: "convert it first: estargz convert IMAGE DESTINATION",
  UNVERIFIED: "convert it with estargz convert, which writes the annotation, or add --allow-unverified",
  PERMISSION_DENIED: "run it as root",
  NO_SPACE: "make room on the disk, or choose another one with --root",
  TIMEOUT: "the other side did not answer in time: try again",
};

/** Codes whose messages already name the cause so well that a hint would only repeat it. */
const SYSTEM: Readonly<Record<string, string>> = {
  ENOENT: "no such file or folder",
  EACCES: "permission denied",
  EPERM: "not permitted: run it as root",
  EISDIR: "it is a folder",
  ENOTDIR: "it is not a folder",
  ENOSPC: "the disk is full",
  EEXIST: "it exists already",
  EROFS: "the file system is read-only",
};

function systemMessage(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("code" in error) || typeof error.code !== "string") return undefined;
  const text = SYSTEM[error.code];
  if (text === undefined) return undefined;
  const path = "path" in error && typeof error.path === "string" ? `${error.path}: ` : "";
  return `${path}${text}`;
}

/** The innermost cause that says more than the error itself: a DNS or connection failure, usually. */
function causeText(error: Error): string | undefined {
  let inner: unknown = error.cause;
  for (let depth = 0; depth < 8 && inner instanceof Error; depth++) {
    if (inner instanceof AggregateError && inner.errors.length > 0) inner = inner.errors[0];
    else if (inner.cause instanceof Error) inner = inner.cause;
    else break;
  }
  if (!(inner instanceof Error) || inner.message === "" || error.message.includes(inner.message)) return undefined;
  // The message has told the system's error already, in words or by its code.
  const code = "code" in inner && typeof inner.code === "string" ? inner.code : undefined;
  if (code === "ENOENT" || (code !== undefined && error.message.includes(code))) return undefined;
  return inner.message;
}

function oneLine(text: string): string {
  return text.replace(/\s*\n\s*/g, "; ").trim();
}

/**
 * Says in one line what went wrong and what to do about it, without a stack trace.
 *
 * @param error - Anything that was thrown.
 */
export function describeError(error: unknown): string {
  const system = systemMessage(error);
  if (system !== undefined) return oneLine(system);
  if (!(error instanceof Error)) return oneLine(String(error));
  const parts = [error.message === "" ? error.name : error.message];
  const cause = causeText(error);
  if (cause !== undefined) parts.push(` (${cause})`);
  // An error about a path within an image says itself what to do.
  const hint = isEstargzError(error) && error.details["path"] === undefined ? HINTS[error.code] : undefined;
  if (hint !== undefined) parts.push(`: ${hint}`);
  return oneLine(parts.join(""));
}

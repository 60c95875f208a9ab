import { type ErrorCode, isEstargzError } from "@estargz/interface";

/** Error numbers of Linux that a file system answers with; replies carry their negative. */
export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  EACCES: 13,
  ENOTDIR: 20,
  EINVAL: 22,
  ENOSPC: 28,
  EROFS: 30,
  ERANGE: 34,
  ENOSYS: 38,
  ENODATA: 61,
} as const;

/** The error number that a failed request is answered with: the one table from error codes to errno. */
export function errnoOf(error: unknown): number {
  if (isEstargzError(error)) return errnoOfCode(error.code);
  if (error instanceof Error && error.name === "AbortError") return Errno.EINTR;
  return Errno.EIO;
}

function errnoOfCode(code: ErrorCode): number {
  switch (code) {
    case "INVALID_ARGUMENT":
      return Errno.EINVAL;
    case "PERMISSION_DENIED":
      return Errno.EACCES;
    case "TIMEOUT":
    case "INVALID_DIGEST":
    case "INVALID_REFERENCE":
    case "INVALID_CONFIG":
    case "OUT_OF_RANGE":
    case "SHORT_READ":
    case "DIGEST_MISMATCH":
    case "LIMIT_EXCEEDED":
    case "UNSUPPORTED":
    case "NOT_ESTARGZ":
    case "INVALID_FOOTER":
    case "INVALID_TOC":
    case "INVALID_TAR":
    case "INVALID_COMPRESSION":
    case "UNVERIFIED":
    case "UNAUTHORIZED":
    case "FORBIDDEN":
    case "NOT_FOUND":
    case "RANGE_UNSUPPORTED":
    case "RATE_LIMITED":
    case "INVALID_RESPONSE":
    case "REGISTRY_UNAVAILABLE":
    case "PUSH_REJECTED":
    case "ALREADY_EXISTS":
    case "FAILED_PRECONDITION":
    case "UNAVAILABLE":
    case "IO_ERROR":
    case "NO_SPACE":
    case "MOUNT_FAILED":
    case "CLOSED":
      return Errno.EIO;
  }
}

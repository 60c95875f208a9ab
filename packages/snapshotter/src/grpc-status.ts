import { Code, ConnectError } from "@connectrpc/connect";
import type { ErrorCode } from "@estargz/interface";
import { isEstargzError } from "@estargz/interface";

/** The gRPC status of an error code, as containerd's errdefs maps its own errors. */
function grpcCode(code: ErrorCode): Code {
  switch (code) {
    case "NOT_FOUND":
      return Code.NotFound;
    case "ALREADY_EXISTS":
      return Code.AlreadyExists;
    case "FAILED_PRECONDITION":
      return Code.FailedPrecondition;
    case "INVALID_ARGUMENT":
    case "INVALID_DIGEST":
    case "INVALID_REFERENCE":
    case "INVALID_CONFIG":
      return Code.InvalidArgument;
    case "OUT_OF_RANGE":
      return Code.OutOfRange;
    case "TIMEOUT":
      return Code.DeadlineExceeded;
    case "LIMIT_EXCEEDED":
    case "NO_SPACE":
      return Code.ResourceExhausted;
    case "UNAUTHORIZED":
      return Code.Unauthenticated;
    case "FORBIDDEN":
    case "PERMISSION_DENIED":
      return Code.PermissionDenied;
    case "UNSUPPORTED":
    case "RANGE_UNSUPPORTED":
      return Code.Unimplemented;
    case "DIGEST_MISMATCH":
    case "INVALID_FOOTER":
    case "INVALID_TOC":
    case "INVALID_TAR":
    case "INVALID_COMPRESSION":
    case "NOT_ESTARGZ":
    case "UNVERIFIED":
    case "SHORT_READ":
      return Code.DataLoss;
    case "UNAVAILABLE":
    case "RATE_LIMITED":
    case "INVALID_RESPONSE":
    case "REGISTRY_UNAVAILABLE":
    case "PUSH_REJECTED":
    case "CLOSED":
      return Code.Unavailable;
    case "IO_ERROR":
    case "MOUNT_FAILED":
      return Code.Internal;
  }
}

/** Makes the gRPC error of anything that was thrown. */
export function toConnectError(error: unknown, signal?: AbortSignal): ConnectError {
  if (error instanceof ConnectError) return error;
  if (isEstargzError(error)) return new ConnectError(error.message, grpcCode(error.code), undefined, undefined, error);
  if (signal?.aborted === true) return new ConnectError("the caller went away", Code.Canceled, undefined, undefined, error);
  return new ConnectError(error instanceof Error ? error.message : String(error), Code.Internal, undefined, undefined, error);
}

import { EstargzError, isEstargzError } from "@estargz/interface";
import type { PostedError } from "./open-messages.ts";

/** Makes an error postable. */
export function postError(error: unknown): PostedError {
  if (isEstargzError(error)) return { code: error.code, message: error.message, details: error.details };
  return { code: undefined, message: error instanceof Error ? error.message : String(error), details: {} };
}

/** Makes an error of a posted one. */
export function receiveError(posted: PostedError): Error {
  return posted.code === undefined ? new Error(posted.message) : new EstargzError(posted.code, posted.message, { details: posted.details });
}

import { type ErrorCode, EstargzError } from "@estargz/interface";

const CODES: ReadonlyMap<unknown, ErrorCode> = new Map<unknown, ErrorCode>([
  ["ENOENT", "NOT_FOUND"],
  ["ENOTDIR", "NOT_FOUND"],
  ["EACCES", "PERMISSION_DENIED"],
  ["EPERM", "PERMISSION_DENIED"],
  ["ENOSPC", "NO_SPACE"],
  ["EDQUOT", "NO_SPACE"],
]);

/** The error of a failed call of the file system: `NOT_FOUND`, `PERMISSION_DENIED`, `NO_SPACE`, `IO_ERROR` for anything else. */
export function fileError(path: string, error: unknown): EstargzError {
  const { code, message } = error as NodeJS.ErrnoException;
  return new EstargzError(CODES.get(code) ?? "IO_ERROR", `can't use ${path}: ${message}`, { cause: error });
}

/** Waits for a call of the file system. Throws {@link fileError}. */
export async function guardFile<T>(path: string, result: Promise<T>): Promise<T> {
  try {
    return await result;
  } catch (error) {
    throw fileError(path, error);
  }
}

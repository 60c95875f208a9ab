import type { Digest } from "@estargz/interface";
import { STATE_FILE_BYTES } from "./layer-index-layout.ts";

/**
 * Content of a layer's file in the state directory, as tools of the reference implementation read it. Padded with blanks
 * to a fixed size, because the kernel keeps the size.
 */
export function stateFile(state: {
  readonly digest: Digest;
  readonly size: number;
  readonly fetchedSize: number;
  /** Code of the last error; never a message of a server. */
  readonly error?: string | undefined;
}): Uint8Array {
  const { digest, size, fetchedSize, error } = state;
  const fetchedPercent = size === 0 ? 100 : (fetchedSize / size) * 100;
  const text = JSON.stringify({ ...(error === undefined ? {} : { error }), digest, size, fetchedSize, fetchedPercent });
  return Buffer.from(`${text.padEnd(STATE_FILE_BYTES - 1)}\n`);
}

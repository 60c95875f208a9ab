import { constants } from "node:zlib";

interface RawHandle {
  onerror: (message: string, errno: number, code: string) => void;
  writeSync(
    flush: number,
    input: Uint8Array,
    inputOffset: number,
    inputLength: number,
    output: Uint8Array,
    outputOffset: number,
    outputLength: number,
  ): void;
  reset(): void;
}

/** A zlib or zstd context, driven by hand. */
export interface ZlibHandle {
  /** What the last failed write said. */
  readonly error: string | undefined;
  /** Runs once; gives what is left of input and output, or `undefined` for damaged data (the handle is of no use then). */
  write(
    flush: number,
    input: Uint8Array,
    inputOffset: number,
    inputLength: number,
    output: Uint8Array,
    outputOffset: number,
    outputLength: number,
  ): { input: number; output: number } | undefined;
  reset(): void;
}

/**
 * Takes the native handle out of a zlib stream, as minizlib does: the only way to inflate into a buffer of one's own, to stop
 * after the bytes wanted and to use a context again. Node promises nothing about it: `undefined` where it looks otherwise.
 */
export function openZlibHandle(stream: object): ZlibHandle | undefined {
  const { _handle: raw, _writeState: state } = stream as { _handle?: RawHandle; _writeState?: Uint32Array };
  if (typeof raw?.writeSync !== "function" || typeof raw.reset !== "function" || !(state instanceof Uint32Array)) return undefined;
  let error: string | undefined;
  raw.onerror = (message, errno) => {
    // Output that ran out of room is no error here.
    if (errno !== constants.Z_BUF_ERROR) error = message;
  };
  return {
    get error() {
      return error;
    },
    write(flush, input, inputOffset, inputLength, output, outputOffset, outputLength) {
      error = undefined;
      raw.writeSync(flush, input, inputOffset, inputLength, output, outputOffset, outputLength);
      if (error !== undefined) return undefined;
      return { output: state[0] as number, input: state[1] as number };
    },
    reset: () => raw.reset(),
  };
}

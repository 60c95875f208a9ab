import { EstargzError, type ReaderAt, type StreamReadOptions } from "@estargz/interface";
import { type SharedTransfer, TransferWord } from "./transfer.ts";

/** Why bytes are fetched. */
export type FetchCause = "on-demand" | "read-ahead" | "prefetch" | "background";

const PIECE_BYTES = 1024 * 1024;

/** A request for a range of a blob, as the main thread runs it. */
export interface TransferRun {
  readonly shared: SharedTransfer;
  readonly cause: FetchCause;
  readonly length: number;
  /** Chunks that no decoder has reported yet. */
  readonly open: Set<number>;
  /** Whether somebody waits for what it brings, now or since it was promoted. */
  urgent: boolean;
  received: number;
  lastPieceMs: number;
  paused: boolean;
  ended: boolean;
  /** Bytes of disk set aside for its chunks that no decoder has reported yet. */
  reservedBytes: number;
  readonly abort: AbortController;
}

/** What running a transfer needs of its surroundings. */
export interface TransferHost {
  wake(): void;
  /** Resolves when this transfer may go on; `undefined` if at once. */
  turn(run: TransferRun): Promise<void> | undefined;
  onFirstByte(run: TransferRun, afterMs: number): void;
  onPiece(run: TransferRun, bytes: number): void;
}

/**
 * Streams a range into the shared buffer; decoders take members out of it while it still arrives.
 *
 * @throws what the source throws, `SHORT_READ` if it ends early.
 */
export async function runTransfer(run: TransferRun, reader: ReaderAt, priority: number, host: TransferHost): Promise<void> {
  const { shared, length } = run;
  const target = new Uint8Array(shared.bytes);
  const state = new Int32Array(shared.state);
  const started = performance.now();
  let member = 0;
  for await (const piece of pieces(reader, shared.blobOffset, length, { signal: run.abort.signal, priority, into: target })) {
    run.abort.signal.throwIfAborted();
    if (run.received === 0) host.onFirstByte(run, performance.now() - started);
    if (run.received + piece.length > length)
      throw new EstargzError("INVALID_RESPONSE", `the source sent more than the ${length} bytes asked for`);
    if (piece.buffer !== shared.bytes) target.set(piece, run.received);
    run.received += piece.length;
    run.lastPieceMs = performance.now();
    Atomics.store(state, TransferWord.received, run.received);
    host.onPiece(run, piece.length);
    if (run.received >= (shared.ends[member] ?? Number.POSITIVE_INFINITY)) {
      while (run.received >= (shared.ends[member] ?? Number.POSITIVE_INFINITY)) member++;
      host.wake();
    }
    const turn = host.turn(run);
    if (turn !== undefined) {
      run.paused = true;
      await turn;
      run.paused = false;
      run.lastPieceMs = performance.now();
    }
  }
  if (run.received < length) throw new EstargzError("SHORT_READ", `the source ended after ${run.received} of ${length} bytes`);
}

async function* pieces(reader: ReaderAt, offset: number, length: number, options: StreamReadOptions): AsyncIterable<Uint8Array> {
  if (length <= 0) return;
  if (reader.stream !== undefined) {
    yield* reader.stream(offset, length, options);
    return;
  }
  for (let at = 0; at < length; at += PIECE_BYTES) yield await reader.readAt(offset + at, Math.min(PIECE_BYTES, length - at), options);
}

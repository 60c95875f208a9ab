import { EstargzError, isEstargzError } from "@estargz/interface";
import type { SystemCalls } from "../dev-fuse/system-calls.ts";
import { encodeMessage, type KeeperReply, type KeeperRequest, MessageReader } from "./keeper-protocol.ts";

/** Time a keeper has to answer, in milliseconds. */
const TIMEOUT_MS = 10_000;
/** Times that a call is made when its answer does not come. */
const ATTEMPTS = 3;
const PART_BYTES = 65_536;

/** A keeper's answer with the descriptors that came along; they belong to the caller. */
export interface KeeperAnswer {
  readonly reply: KeeperReply;
  readonly descriptors: readonly number[];
}

/**
 * Asks a keeper something. Waits for the answer without returning to the event loop: a keeper answers at once.
 *
 * @returns `undefined` when no keeper listens there.
 * @throws `IO_ERROR` when it does not answer, `UNAVAILABLE` when it refuses.
 */
export function callKeeper(
  systemCalls: SystemCalls,
  socketPath: string,
  request: KeeperRequest,
  descriptors: readonly number[] = [],
): KeeperAnswer | undefined {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return callOnce(systemCalls, socketPath, request, descriptors);
    } catch (error) {
      // A keeper that was replaced right now resets what was waiting: its successor listens on the same path.
      if (attempt === ATTEMPTS || !isEstargzError(error, "IO_ERROR")) throw error;
    }
  }
}

function callOnce(
  systemCalls: SystemCalls,
  socketPath: string,
  request: KeeperRequest,
  descriptors: readonly number[],
): KeeperAnswer | undefined {
  const socket = systemCalls.connect(socketPath, TIMEOUT_MS);
  if (socket < 0) return undefined;
  const received: number[] = [];
  try {
    if (systemCalls.send(socket, encodeMessage(request), descriptors) < 0) throw unavailable(socketPath, systemCalls.errno());
    const reply = receiveMessage(systemCalls, socket, received) as KeeperReply | undefined;
    if (reply === undefined) throw unavailable(socketPath, systemCalls.errno());
    if (reply.error !== undefined)
      throw new EstargzError("UNAVAILABLE", `the keeper at ${socketPath} refuses ${request.command}: ${reply.error}`);
    return { reply, descriptors: received };
  } catch (error) {
    for (const fd of received) systemCalls.close(fd);
    throw error;
  } finally {
    systemCalls.close(socket);
  }
}

/** Opens a connection that the keeper holds until it ends. Gives its descriptor, or -1. */
export function openWatch(systemCalls: SystemCalls, socketPath: string): number {
  const socket = systemCalls.connect(socketPath, TIMEOUT_MS);
  if (socket < 0) return -1;
  const watched =
    systemCalls.send(socket, encodeMessage({ command: "watch" }), []) > 0 && receiveMessage(systemCalls, socket, []) !== undefined;
  if (watched) return socket;
  systemCalls.close(socket);
  return -1;
}

/** Receives one message; `undefined` when the other side ends or is silent too long. */
export function receiveMessage(systemCalls: SystemCalls, socket: number, descriptors: number[]): unknown {
  const reader = new MessageReader();
  const part = new Uint8Array(PART_BYTES);
  for (;;) {
    const length = systemCalls.receive(socket, part, descriptors);
    if (length <= 0) return undefined;
    const message = reader.add(part.subarray(0, length));
    if (message !== undefined) return message;
  }
}

function unavailable(socketPath: string, errno: number): EstargzError {
  return new EstargzError("IO_ERROR", `the keeper at ${socketPath} does not answer (errno ${errno}): stop it and start it again`);
}

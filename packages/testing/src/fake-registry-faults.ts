import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";

/** Part of a fake registry: its API, its token service, or the store that it redirects blobs to. */
export type FakeServer = "api" | "token" | "store";

/** What a fault looks at to decide whether it is meant. */
export interface FaultTarget {
  readonly server: FakeServer;
  readonly method: string;
  readonly path: string;
  readonly range: string | undefined;
}

/** Something that goes wrong. Effects may be combined. */
export interface Fault {
  /** Which requests: by part, method, path, and whether a range was asked for. Default: GETs of blobs' bytes. */
  readonly server?: FakeServer | undefined;
  readonly method?: string | undefined;
  readonly path?: RegExp | undefined;
  /** How many requests it strikes; `Infinity` for all. Default 1. */
  readonly times?: number | undefined;
  /** Requests that are let through first. Default 0. */
  readonly skip?: number | undefined;

  /** Waits before it answers. */
  readonly latencyMs?: number | undefined;
  /** Sends its body at this rate. */
  readonly bytesPerSecond?: number | undefined;
  /** Sends this many bytes of the body, then nothing more, with the connection open. */
  readonly stallAfterBytes?: number | undefined;
  /** Sends this many bytes of the body, then ends the connection as if all were well. */
  readonly truncateAfterBytes?: number | undefined;
  /** Sends this many bytes of the body, then resets the connection. */
  readonly resetAfterBytes?: number | undefined;
  /** Takes the request and never answers. */
  readonly blackHole?: boolean | undefined;
  /** Answers with this status and an error body. */
  readonly status?: number | undefined;
  /** Retry-After of that answer: seconds, or text as it is. */
  readonly retryAfter?: number | string | undefined;
  /** Tells another place in Content-Range than the bytes' own, by this many bytes. */
  readonly shiftContentRange?: number | undefined;
  /** Leaves Content-Range out, or writes this. */
  readonly contentRange?: string | undefined;
  /** Flips the bits of the body's bytes. */
  readonly wrongBytes?: boolean | undefined;
  /** Sends another blob's content for the range, with that blob's total. */
  readonly swapBlob?: Uint8Array | undefined;
  /** Answers a request for a range with the whole blob. */
  readonly ignoreRange?: boolean | undefined;
  /** Ends all tokens (or signed URLs) that were given out, then goes on as usual. */
  readonly expire?: "tokens" | "redirects" | undefined;
  /** Redirects to this URL. */
  readonly redirectTo?: string | undefined;
  /** Compresses the body though identity was asked for, and says so. */
  readonly encode?: boolean | undefined;
  /** Takes this many bytes of an upload's body, keeps them, then resets the connection. */
  readonly cutUploadAfterBytes?: number | undefined;
}

interface Planned {
  readonly fault: Fault;
  left: number;
  skip: number;
}

const BLOB_PATH = /\/blobs\/sha(?:256|512):|^\/store\//;

function isMeant(fault: Fault, target: FaultTarget): boolean {
  if (fault.server !== undefined && fault.server !== target.server) return false;
  const general = fault.server === undefined && fault.path === undefined && fault.method === undefined;
  if (general) return target.method === "GET" && BLOB_PATH.test(target.path) && target.server !== "token";
  if (fault.method !== undefined && fault.method !== target.method) return false;
  return fault.path?.test(target.path) ?? true;
}

/** Faults that wait for their requests. */
export class FaultPlan {
  #planned: Planned[] = [];

  add(fault: Fault): void {
    this.#planned.push({ fault, left: fault.times ?? 1, skip: fault.skip ?? 0 });
  }

  clear(): void {
    this.#planned = [];
  }

  /** The first fault that is meant for a request; counted. */
  take(target: FaultTarget): Fault | undefined {
    for (const planned of this.#planned) {
      if (planned.left <= 0 || !isMeant(planned.fault, target)) continue;
      if (planned.skip > 0) {
        planned.skip -= 1;
        continue;
      }
      planned.left -= 1;
      return planned.fault;
    }
    return undefined;
  }
}

function socketOf(response: ServerResponse): Socket | undefined {
  return response.socket ?? undefined;
}

/** Ends a response's connection in the middle: HTTP/2 resets the stream. */
export function cut(response: ServerResponse, reset: boolean): void {
  const stream = (response as unknown as { stream?: { close(code: number): void } }).stream;
  if (stream !== undefined && typeof stream.close === "function") {
    stream.close(reset ? 2 : 0);
    return;
  }
  const socket = socketOf(response);
  if (reset) socket?.resetAndDestroy();
  // What was written goes out before the connection ends.
  else socket?.end(() => socket.destroy());
}

const PIECE_BYTES = 64 * 1024;

async function paced(response: ServerResponse, bytes: Uint8Array, bytesPerSecond: number): Promise<void> {
  const piece = Math.max(1, Math.min(PIECE_BYTES, Math.floor(bytesPerSecond / 20)));
  for (let at = 0; at < bytes.length && !response.destroyed; at += piece) {
    response.write(bytes.subarray(at, at + piece));
    await new Promise((resolve) => setTimeout(resolve, (piece * 1000) / bytesPerSecond));
  }
}

/** Writes a body with a fault's effects on it. Resolves with the bytes sent when there is nothing more to do. */
export async function writeBody(response: ServerResponse, body: Uint8Array, fault: Fault | undefined): Promise<number> {
  let bytes = body;
  if (fault?.wrongBytes === true) bytes = bytes.map((byte) => byte ^ 0xff);
  const limit = fault?.stallAfterBytes ?? fault?.truncateAfterBytes ?? fault?.resetAfterBytes;
  const sent = limit === undefined ? bytes : bytes.subarray(0, limit);
  if (fault?.bytesPerSecond !== undefined) await paced(response, sent, fault.bytesPerSecond);
  else if (limit !== undefined)
    await new Promise<void>((resolve) => (sent.length > 0 ? response.write(sent, () => resolve()) : resolve(response.flushHeaders())));
  if (limit === undefined) {
    if (fault?.bytesPerSecond === undefined) response.end(sent);
    else response.end();
  } else if (fault?.stallAfterBytes === undefined) cut(response, fault?.resetAfterBytes !== undefined);
  return sent.length;
}

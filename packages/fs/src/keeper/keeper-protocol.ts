import { EstargzError } from "@estargz/interface";

/** Version of the protocol between keeper and daemon. A keeper serves every older version. */
export const KEEPER_PROTOCOL = 1;
/** Longest message, in bytes. */
const MAX_MESSAGE_BYTES: number = 256 * 1024;
/** Most descriptors that a keeper holds: what fits into one message. */
export const MAX_KEPT: number = 250;

/** A descriptor that is kept, with what its owner wants to know about it again. */
export interface KeptEntry {
  readonly name: string;
  /** Serialisable; not looked at by the keeper. */
  readonly note: unknown;
}

/** What a keeper is asked. */
export type KeeperRequest =
  | { readonly command: "hello" }
  /** Gives all descriptors. */
  | { readonly command: "list" }
  /** Takes a descriptor, sent along; replaces one of the same name. */
  | { readonly command: "put"; readonly name: string; readonly note: unknown }
  | { readonly command: "remove"; readonly name: string }
  /** Stays connected: the end of the connection is the keeper's end. */
  | { readonly command: "watch" }
  /** Ends the keeper; its descriptors are held by somebody else now. */
  | { readonly command: "stop" };

/** What a keeper answers. */
export interface KeeperReply {
  readonly protocol: number;
  readonly pid: number;
  readonly error?: string;
  readonly entries?: readonly KeptEntry[];
}

/** Frames a message: its length in four bytes, then JSON. */
export function encodeMessage(message: KeeperRequest | KeeperReply): Uint8Array {
  const text = Buffer.from(JSON.stringify(message));
  if (text.length > MAX_MESSAGE_BYTES)
    throw new EstargzError("LIMIT_EXCEEDED", `a keeper message of ${text.length} bytes, ${MAX_MESSAGE_BYTES} are allowed`);
  const frame = new Uint8Array(4 + text.length);
  new DataView(frame.buffer).setUint32(0, text.length, true);
  frame.set(text, 4);
  return frame;
}

/** Collects the parts of one message. */
export class MessageReader {
  #bytes = new Uint8Array(0);

  /** Adds what was received. Gives the message once it is whole. */
  add(part: Uint8Array): unknown {
    const joined = new Uint8Array(this.#bytes.length + part.length);
    joined.set(this.#bytes);
    joined.set(part, this.#bytes.length);
    this.#bytes = joined;
    if (joined.length < 4) return undefined;
    const length = new DataView(joined.buffer).getUint32(0, true);
    if (length > MAX_MESSAGE_BYTES)
      throw new EstargzError("LIMIT_EXCEEDED", `a keeper message of ${length} bytes, ${MAX_MESSAGE_BYTES} are allowed`);
    if (joined.length < 4 + length) return undefined;
    return JSON.parse(Buffer.from(joined.subarray(4, 4 + length)).toString()) as unknown;
  }
}

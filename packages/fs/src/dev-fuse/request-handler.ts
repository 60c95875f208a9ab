import { IN_HEADER_BYTES, InHeader, Opcode, OpenFlag, OUT_HEADER_BYTES, REQUEST_BUFFER_BYTES, ROOT_NODE_ID } from "./protocol.ts";
import { ReplyWriter } from "./reply-writer.ts";
import type { ServedConnection } from "./served-connection.ts";
import type { ServedLayer } from "./served-layer.ts";
import { Errno, type SystemCalls } from "./system-calls.ts";

const TWO_32 = 4_294_967_296;
const S_IFDIR = 0o040000;
const NAME_MAX = 255;

/** What becomes of a request that {@link RequestHandler.handle} wrote no reply for. A positive number is a reply's length. */
export const Outcome = {
  /** Nothing is to be said: FORGET and the like. */
  NONE: 0,
  /** A READ of bytes that are not local: {@link RequestHandler.miss} describes it. */
  MISS: -1,
  /** An OPEN that the kernel may read by itself: for the main thread. */
  OPEN: -2,
  /** A RELEASE of such a file. */
  RELEASE: -3,
  /** The caller of a request was interrupted. */
  INTERRUPT: -4,
  /** The request waits for its layer to be attached. */
  PARK: -5,
  /** A short READ that the disk is bringing: to be handled again in a moment. */
  DISK: -6,
} as const;

/** A request for the main thread. */
export interface MissRequest {
  readonly uniqueLow: number;
  readonly uniqueHigh: number;
  readonly layer: number;
  readonly inode: number;
  readonly offset: number;
  readonly length: number;
  /** Thread that waits for it, 0 where this daemon cannot see it. */
  readonly pid: number;
  /** Whether the bytes go past the page cache: such a read may end with EINTR. */
  readonly direct: boolean;
  /** Times that it was given to the main thread before. */
  readonly attempt: number;
}

const O_DIRECT = 0o40000;

const dot = Uint8Array.of(0x2e);
const dotDot = Uint8Array.of(0x2e, 0x2e);

/**
 * Answers requests from memory and local files: the read-only file system itself. Knows no descriptor of a
 * connection and waits for nothing, so it runs in any thread and in tests.
 */
export class RequestHandler {
  /** Requests are read into this buffer. */
  readonly request: Uint8Array;
  readonly reply: ReplyWriter = new ReplyWriter();
  readonly #words: Uint32Array;
  readonly #dataAddress: number;
  readonly #beforeWaiting: () => void;

  /** @param beforeWaiting - Called when a read has to wait for the disk: somebody else had better look for requests. */
  constructor(systemCalls: Pick<SystemCalls, "address">, beforeWaiting: () => void = () => {}) {
    this.#beforeWaiting = beforeWaiting;
    const buffer = new ArrayBuffer(REQUEST_BUFFER_BYTES);
    this.request = new Uint8Array(buffer);
    this.#words = new Uint32Array(buffer);
    this.#dataAddress = systemCalls.address(this.reply.bytes) + OUT_HEADER_BYTES;
  }

  /** Opcode of the current request. */
  get opcode(): number {
    return this.#word(InHeader.OPCODE);
  }

  get uniqueLow(): number {
    return this.#word(InHeader.UNIQUE_LOW);
  }

  get uniqueHigh(): number {
    return this.#word(InHeader.UNIQUE_HIGH);
  }

  /** The current request as the main thread needs it. */
  get miss(): MissRequest {
    return {
      uniqueLow: this.uniqueLow,
      uniqueHigh: this.uniqueHigh,
      layer: this.#word(InHeader.NODE_HIGH) - 1,
      inode: this.#word(InHeader.NODE_LOW) - 1,
      offset: this.#argument64(8),
      length: this.#argument(16),
      pid: this.#word(InHeader.PID),
      direct: (this.#argument(32) & O_DIRECT) !== 0,
      attempt: 0,
    };
  }

  /** Puts a READ that was a miss in the place of the current request. Gives its length. */
  load(request: MissRequest): number {
    const words = this.#words;
    words[0] = IN_HEADER_BYTES + 40;
    words[1] = Opcode.READ;
    words[2] = request.uniqueLow;
    words[3] = request.uniqueHigh;
    words[4] = request.inode + 1;
    words[5] = request.layer + 1;
    words[12] = request.offset;
    words[13] = request.offset / TWO_32;
    words[14] = request.length;
    return IN_HEADER_BYTES + 40;
  }

  /** File handle of a RELEASE. */
  get fileHandle(): number {
    return this.#argument(0);
  }

  /** Number of the request that an INTERRUPT is about. */
  get interrupted(): { readonly low: number; readonly high: number } {
    return { low: this.#argument(0), high: this.#argument(4) };
  }

  #word(at: number): number {
    return this.#words[at >>> 2] ?? 0;
  }

  #argument(at: number): number {
    return this.#words[(IN_HEADER_BYTES + at) >>> 2] ?? 0;
  }

  #argument64(at: number): number {
    return this.#argument(at + 4) * TWO_32 + this.#argument(at);
  }

  /** Bytes of a name that ends with a zero byte. */
  #name(at: number, length: number): Uint8Array {
    const start = IN_HEADER_BYTES + at;
    const end = this.request.indexOf(0, start);
    return this.request.subarray(start, end < 0 || end > length ? length : end);
  }

  /**
   * Handles the request that was read.
   *
   * @param length - Bytes of the request.
   * @param mayWait - Whether a short read may wait for the disk.
   * @returns Length of the reply in {@link RequestHandler.reply}, or an {@link Outcome}.
   */
  handle(connection: ServedConnection, length: number, mayWait = true): number {
    const { reply } = this;
    reply.begin(this.uniqueLow, this.uniqueHigh);
    const opcode = this.opcode;
    switch (opcode) {
      case Opcode.FORGET:
        this.#forget(connection, this.#word(InHeader.NODE_HIGH), this.#argument64(0));
        return Outcome.NONE;
      case Opcode.BATCH_FORGET:
        this.#batchForget(connection, length);
        return Outcome.NONE;
      case Opcode.NOTIFY_REPLY:
        return Outcome.NONE;
      case Opcode.INTERRUPT:
        return Outcome.INTERRUPT;
      case Opcode.STATFS:
        return reply.statfs();
      case Opcode.DESTROY:
        return reply.status(0);
      case Opcode.OPENDIR:
        return connection.handshake.noOpendir ? reply.status(Errno.ENOSYS) : this.#openDirectory();
      case Opcode.RELEASEDIR:
        return reply.status(0);
      default:
    }
    const high = this.#word(InHeader.NODE_HIGH);
    if (high === 0) return this.#handleRoot(connection, opcode, length);
    const layer = connection.layers.get(high);
    if (layer === undefined) return connection.waiting ? Outcome.PARK : reply.status(Errno.ENOENT);
    const inode = this.#word(InHeader.NODE_LOW) - 1;
    if (inode < 0 || inode >= layer.index.inodeCount) return reply.status(Errno.ENOENT);
    if (opcode === Opcode.READ) return this.#read(layer, inode, mayWait);
    return this.#handleLayer(connection, layer, high, inode, length);
  }

  #handleLayer(connection: ServedConnection, layer: ServedLayer, high: number, inode: number, length: number): number {
    const { reply } = this;
    const { index } = layer;
    switch (this.opcode) {
      case Opcode.LOOKUP: {
        const name = this.#name(0, length);
        if (name.length > NAME_MAX) return reply.status(Errno.ENAMETOOLONG);
        const found = index.lookup(inode, name);
        if (found < 0) return reply.noEntry();
        layer.lookups += 1;
        return reply.entry(index, high, found);
      }
      case Opcode.GETATTR:
        return reply.attributes(index, high, inode);
      case Opcode.READDIRPLUS:
        return this.#list(layer, high, inode, true);
      case Opcode.READDIR:
        return this.#list(layer, high, inode, false);
      case Opcode.READLINK:
        return index.isSymlink(inode) ? reply.data(index.link(inode)) : reply.status(Errno.EINVAL);
      case Opcode.OPEN:
        return this.#open(connection, layer, inode);
      case Opcode.RELEASE:
        return index.hasOwnFile(inode) && connection.handshake.passthrough ? Outcome.RELEASE : reply.status(0);
      case Opcode.GETXATTR:
        // After ENOSYS the kernel never asks again, and programs see EOPNOTSUPP: see Driver.exactPath for those that cannot take it.
        return connection.xattrs ? this.#sized(index.xattr(inode, this.#name(8, length))) : reply.status(Errno.ENOSYS);
      case Opcode.LISTXATTR:
        return connection.xattrs ? this.#sized(index.xattrNames(inode)) : reply.status(Errno.ENOSYS);
      default:
        return this.#refuse();
    }
  }

  #handleRoot(connection: ServedConnection, opcode: number, length: number): number {
    const { reply } = this;
    switch (opcode) {
      case Opcode.LOOKUP: {
        const number = layerNumberOf(this.#name(0, length));
        const layer = number === undefined ? undefined : connection.layers.get(number + 1);
        if (layer?.shown === true) {
          layer.lookups += 1;
          return reply.entry(layer.index, layer.number + 1, 0);
        }
        return connection.waiting && number !== undefined ? Outcome.PARK : reply.status(Errno.ENOENT);
      }
      case Opcode.GETATTR:
        return reply.rootAttributes();
      case Opcode.READDIRPLUS:
        return connection.waiting ? Outcome.PARK : this.#listRoot(connection, true);
      case Opcode.READDIR:
        return connection.waiting ? Outcome.PARK : this.#listRoot(connection, false);
      case Opcode.GETXATTR:
      case Opcode.LISTXATTR:
        return reply.status(connection.xattrs ? Errno.ENODATA : Errno.ENOSYS);
      default:
        return this.#refuse();
    }
  }

  /** What changes something is refused as on any read-only file system; the rest as unknown. */
  #refuse(): number {
    switch (this.opcode) {
      case Opcode.SETATTR:
      case Opcode.SYMLINK:
      case Opcode.MKNOD:
      case Opcode.MKDIR:
      case Opcode.UNLINK:
      case Opcode.RMDIR:
      case Opcode.RENAME:
      case Opcode.RENAME2:
      case Opcode.LINK:
      case Opcode.WRITE:
      case Opcode.SETXATTR:
      case Opcode.REMOVEXATTR:
      case Opcode.CREATE:
      case Opcode.TMPFILE:
      case Opcode.FALLOCATE:
        return this.reply.status(Errno.EROFS);
      default:
        // ACCESS, FLUSH, LSEEK, IOCTL, POLL, STATX: the kernel then does without.
        return this.reply.status(Errno.ENOSYS);
    }
  }

  #read(layer: ServedLayer, inode: number, mayWait: boolean): number {
    const { reply } = this;
    if (!layer.index.isRegular(inode)) return reply.status(layer.index.isDirectory(inode) ? Errno.EISDIR : Errno.EINVAL);
    const offset = this.#argument64(8);
    const length = Math.min(this.#argument(16), layer.index.size(inode) - offset, reply.bytes.length - OUT_HEADER_BYTES);
    if (length <= 0) return reply.payload(0);
    if (!layer.isLocal(inode, offset, length)) return Outcome.MISS;
    const result = layer.read(inode, offset, length, this.#dataAddress, this.#beforeWaiting, mayWait);
    if (result === "later") return Outcome.DISK;
    return result === "done" ? reply.payload(length) : Outcome.MISS;
  }

  #open(connection: ServedConnection, layer: ServedLayer, inode: number): number {
    if (connection.handshake.noOpen) return this.reply.status(Errno.ENOSYS);
    if (connection.handshake.passthrough && layer.index.hasOwnFile(inode)) return Outcome.OPEN;
    return this.reply.open(OpenFlag.KEEP_CACHE | OpenFlag.NOFLUSH, 0);
  }

  #openDirectory(): number {
    const layerDirectory = this.#word(InHeader.NODE_HIGH) !== 0;
    return this.reply.open(layerDirectory ? OpenFlag.KEEP_CACHE | OpenFlag.CACHE_DIR : 0, 0);
  }

  /** Value of an attribute or list of names, by the size that the caller has room for. */
  #sized(value: Uint8Array | undefined): number {
    const room = this.#argument(0);
    if (value === undefined) return this.reply.status(Errno.ENODATA);
    if (room === 0) return this.reply.size(value.length);
    return value.length > room ? this.reply.status(Errno.ERANGE) : this.reply.data(value);
  }

  #list(layer: ServedLayer, high: number, inode: number, plus: boolean): number {
    const { reply } = this;
    const { index } = layer;
    if (!index.isDirectory(inode)) return reply.status(Errno.ENOTDIR);
    const limit = Math.min(this.#argument(16), reply.bytes.length - OUT_HEADER_BYTES);
    const count = index.childCount(inode);
    const add = plus ? reply.nameOnly.bind(reply) : reply.name.bind(reply);
    let position = this.#argument64(8);
    for (; position < 2; position += 1) {
      const up = position === 1;
      const upHigh = up && inode === 0 ? 0 : high;
      const low = upHigh === 0 ? ROOT_NODE_ID : (up ? index.parent(inode) : inode) + 1;
      if (!add(limit, low, upHigh, position + 1, S_IFDIR, up ? dotDot : dot)) return reply.payload(reply.listed);
    }
    for (let child = position - 2; child < count; child += 1) {
      const found = index.childInode(inode, child);
      const name = index.childName(inode, child);
      if (plus) {
        if (!reply.namePlus(limit, index, high, found, child + 3, name)) break;
        layer.lookups += 1;
      } else if (!reply.name(limit, found + 1, high, child + 3, index.mode(found), name)) break;
    }
    return reply.payload(reply.listed);
  }

  /** Offsets in the root are layer numbers, so that they stay good when others come and go. */
  #listRoot(connection: ServedConnection, plus: boolean): number {
    const { reply } = this;
    const limit = Math.min(this.#argument(16), reply.bytes.length - OUT_HEADER_BYTES);
    const add = plus ? reply.nameOnly.bind(reply) : reply.name.bind(reply);
    const from = this.#argument64(8);
    if (from < 1 && !add(limit, ROOT_NODE_ID, 0, 1, S_IFDIR, dot)) return reply.payload(reply.listed);
    if (from < 2 && !add(limit, ROOT_NODE_ID, 0, 2, S_IFDIR, dotDot)) return reply.payload(reply.listed);
    for (const number of connection.numbers) {
      const layer = connection.layers.get(number + 1);
      if (number + 3 <= from || layer === undefined) continue;
      const name = Buffer.from(String(number));
      if (plus) {
        if (!reply.namePlus(limit, layer.index, number + 1, 0, number + 3, name)) break;
        layer.lookups += 1;
      } else if (!reply.name(limit, 1, number + 1, number + 3, S_IFDIR, name)) break;
    }
    return reply.payload(reply.listed);
  }

  #forget(connection: ServedConnection, high: number, count: number): void {
    const layer = connection.layers.get(high);
    if (layer !== undefined) layer.lookups -= count;
  }

  #batchForget(connection: ServedConnection, length: number): void {
    const count = Math.min(this.#argument(0), (length - IN_HEADER_BYTES - 8) / 16);
    for (let i = 0; i < count; i += 1) {
      const at = 8 + i * 16;
      this.#forget(connection, this.#argument(at + 4), this.#argument64(at + 8));
    }
  }
}

/** The layer number that a name in the root stands for. */
export function layerNumberOf(name: Uint8Array): number | undefined {
  if (name.length === 0 || name.length > 7) return undefined;
  let number = 0;
  for (const byte of name) {
    if (byte < 0x30 || byte > 0x39) return undefined;
    number = number * 10 + byte - 0x30;
  }
  return name.length > 1 && name[0] === 0x30 ? undefined : number;
}

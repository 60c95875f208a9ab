import { existsSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { EstargzError } from "@estargz/interface";

/** Error numbers of Linux that a session meets. */
export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  EBADF: 9,
  EAGAIN: 11,
  EACCES: 13,
  EBUSY: 16,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENOTTY: 25,
  EROFS: 30,
  ERANGE: 34,
  ENAMETOOLONG: 36,
  ENOSYS: 38,
  ENODATA: 61,
  EOPNOTSUPP: 95,
  ENOTCONN: 107,
  ESTALE: 116,
} as const;

/**
 * The few system calls that Node has no name for. Numbers in, numbers out: -1 and {@link SystemCalls.errno} on
 * failure. Addresses come from {@link SystemCalls.address}; the memory must stay referenced while it is used.
 */
export interface SystemCalls {
  /** Address of a buffer's memory, for calls on the hot path. */
  address(buffer: Uint8Array): number;
  /** Error number of the last failed call of this thread. */
  errno(): number;
  read(fd: number, address: number, length: number): number;
  pread(fd: number, address: number, length: number, offset: number): number;
  /** Reads only what needs no waiting: what is in the page cache. Fails with EOPNOTSUPP where that cannot be asked for. */
  preadNow(fd: number, address: number, length: number, offset: number): number;
  /** Says that a range of a file will be read soon. */
  willNeed(fd: number, offset: number, length: number): void;
  write(fd: number, address: number, length: number): number;
  /** Writes on a thread of the pool, for writes that may wait. Gives 0 or the error number. */
  writeLater(fd: number, bytes: Uint8Array): Promise<number>;
  open(path: string, flags: number): number;
  close(fd: number): number;
  epollCreate(): number;
  /** With `exclusive`, one of several threads that wait for the descriptor is woken. */
  epollAdd(epoll: number, fd: number, exclusive: boolean): number;
  epollRemove(epoll: number, fd: number): number;
  /** Waits for descriptors to be readable; they are put into `ready`. Gives their number. */
  epollWait(epoll: number, ready: number[], timeoutMs: number): number;
  eventfd(): number;
  setNonBlocking(fd: number): number;
  ioctl(fd: number, request: number, argument: Uint8Array): number;
  mount(source: string, target: string, type: string, flags: number, data: string): number;
  unmount(target: string, flags: number): number;
  socketpair(): readonly [number, number];
  /** A listening Unix stream socket. */
  listen(path: string): number;
  /** Connects to a Unix stream socket. Receiving from it waits for `timeoutMs` at most. */
  connect(path: string, timeoutMs: number): number;
  /** Waits for a connection. */
  accept(fd: number, timeoutMs: number): number;
  /** Sends all bytes, with descriptors. */
  send(fd: number, bytes: Uint8Array, descriptors: readonly number[]): number;
  /** Receives at most `buffer.length` bytes; descriptors that came along are added to `descriptors`. */
  receive(fd: number, buffer: Uint8Array, descriptors: number[]): number;
}

const O_NONBLOCK = 0o4000;
const O_CLOEXEC = 0o2000000;
const F_GETFL = 3;
const F_SETFL = 4;
const EPOLLIN = 1;
const EPOLLEXCLUSIVE = 0x10000000;
const EPOLL_CLOEXEC = O_CLOEXEC;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = O_CLOEXEC;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const POSIX_FADV_WILLNEED = 3;
const RWF_NOWAIT = 8;
const SO_RCVTIMEO = 20;
const SO_SNDTIMEO = 21;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;
/** SCM_MAX_FD of the kernel. */
const MAX_DESCRIPTORS = 253;

type Native = (...args: readonly unknown[]) => number;
type NativeFunction = Native & { async: (...args: unknown[]) => void };
interface Library {
  func(prototype: string): NativeFunction;
  func(name: string, result: string, parameters: readonly string[]): NativeFunction;
}
type Koffi = {
  load(name: string): Library;
  address(value: unknown): bigint;
  errno(): number;
  view(address: bigint, length: number): ArrayBuffer;
};

let loaded: SystemCalls | undefined;

/**
 * Binds the system calls through koffi; the same object at every call in a thread.
 *
 * @throws `UNSUPPORTED` on systems other than Linux and where koffi has no build for the C library.
 */
export function loadSystemCalls(): SystemCalls {
  loaded ??= bindSystemCalls();
  return loaded;
}

/** Loads koffi and the C library. Throws `UNSUPPORTED`. */
export function loadLibrary(): { koffi: Koffi; library: Library } {
  if (process.platform !== "linux") {
    throw new EstargzError("UNSUPPORTED", `the dev-fuse driver needs Linux, not ${process.platform}: use the fuse-native driver`);
  }
  try {
    const require = createRequire(import.meta.url);
    const koffi = require("koffi") as Koffi;
    const musl = existsSync("/lib") ? readdirSync("/lib").find((name) => name.startsWith("libc.musl-")) : undefined;
    for (const name of ["libc.so.6", musl]) {
      if (name === undefined) continue;
      try {
        return { koffi, library: koffi.load(name) };
      } catch (error) {
        if (name === musl || musl === undefined) throw error;
      }
    }
    throw new Error("no C library found");
  } catch (cause) {
    throw new EstargzError("UNSUPPORTED", "koffi cannot load the C library: use the fuse-native driver", { cause });
  }
}

/** Memory of an `epoll_event` array: packed to 12 bytes on x64, 16 elsewhere. */
function epollEvents(count: number): { view: DataView; bytes: Uint8Array; size: number; dataOffset: number } {
  const packed = process.arch === "x64" || process.arch === "ia32";
  const size = packed ? 12 : 16;
  const buffer = new ArrayBuffer(Math.max(size * count, 128));
  return { view: new DataView(buffer), bytes: new Uint8Array(buffer), size, dataOffset: packed ? 4 : 8 };
}

function unixAddress(path: string): Uint8Array {
  const name = Buffer.from(path);
  if (name.length > 107) {
    throw new EstargzError(
      "INVALID_ARGUMENT",
      `socket path ${JSON.stringify(path)} has ${name.length} bytes, 107 are allowed: choose a shorter directory`,
    );
  }
  const address = new Uint8Array(110);
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(name, 2);
  return address;
}

function bindSystemCalls(): SystemCalls {
  const { koffi, library } = loadLibrary();
  const bind = (name: string, result: string, ...parameters: string[]) => library.func(name, result, parameters);
  const address = (buffer: Uint8Array): number => Number(koffi.address(buffer));
  const write = library.func("write", "long", ["int", "size_t", "size_t"]);
  const close = bind("close", "int", "int");
  const fcntl = library.func("int fcntl(int, int, ...)");
  const flagsOf = (fd: number): number => fcntl(fd, F_GETFL, "int", 0);
  const epollCtl = bind("epoll_ctl", "int", "int", "int", "int", "size_t");
  const epollWaitNative = bind("epoll_wait", "int", "int", "size_t", "int", "int");
  const oneEvent = epollEvents(1);
  const oneEventAddress = address(oneEvent.bytes);
  const events = epollEvents(64);
  const eventsAddress = address(events.bytes);
  const mount = bind("mount", "int", "str", "str", "str", "unsigned long", "str");
  const openNative = library.func("int open(const char *, int, ...)");
  return {
    address,
    errno: () => koffi.errno(),
    read: bind("read", "long", "int", "size_t", "size_t"),
    pread: bind("pread", "long", "int", "size_t", "size_t", "int64"),
    preadNow: bindPreadNow(bind, address),
    willNeed: (() => {
      const advise = bind("posix_fadvise", "int", "int", "int64", "int64", "int");
      return (fd, offset, length) => void advise(fd, offset, length, POSIX_FADV_WILLNEED);
    })(),
    write,
    writeLater: (fd, bytes) =>
      new Promise((resolve) => {
        // errno belongs to the pool's thread: koffi hands it back with the call.
        const memory = new Uint8Array(Math.max(bytes.length, 128));
        memory.set(bytes);
        write.async(fd, address(memory), bytes.length, (error: unknown, result: number) => {
          const failed =
            error !== null && error !== undefined ? Errno.EIO : result === bytes.length && memory.length > 0 ? 0 : koffi.errno();
          resolve(failed);
        });
      }),
    open: (path, flags) => openNative(path, flags | O_CLOEXEC, "int", 0),
    close,
    epollCreate: (() => {
      const create = bind("epoll_create1", "int", "int");
      return () => create(EPOLL_CLOEXEC);
    })(),
    epollAdd(epoll, fd, exclusive) {
      oneEvent.view.setUint32(0, exclusive ? EPOLLIN + EPOLLEXCLUSIVE : EPOLLIN, true);
      oneEvent.view.setInt32(oneEvent.dataOffset, fd, true);
      return epollCtl(epoll, EPOLL_CTL_ADD, fd, oneEventAddress);
    },
    epollRemove: (epoll, fd) => epollCtl(epoll, EPOLL_CTL_DEL, fd, oneEventAddress),
    epollWait(epoll, ready, timeoutMs) {
      const count = epollWaitNative(epoll, eventsAddress, 64, timeoutMs);
      ready.length = 0;
      for (let i = 0; i < count; i += 1) ready.push(events.view.getInt32(i * events.size + events.dataOffset, true));
      return count;
    },
    eventfd: (() => {
      const create = bind("eventfd", "int", "uint", "int");
      return () => create(0, O_NONBLOCK | O_CLOEXEC);
    })(),
    setNonBlocking: (fd) => fcntl(fd, F_SETFL, "int", flagsOf(fd) | O_NONBLOCK),
    ioctl: (() => {
      const ioctl = bind("ioctl", "int", "int", "unsigned long", "size_t");
      return (fd, request, argument) => ioctl(fd, request, address(argument));
    })(),
    mount,
    unmount: bind("umount2", "int", "str", "int"),
    ...bindSockets(bind, address, close),
  };
}

/** preadv2 with RWF_NOWAIT; always -1 where the C library has no such function. */
function bindPreadNow(bind: Bind, addressOf: (buffer: Uint8Array) => number): SystemCalls["preadNow"] {
  let preadv2: Native;
  try {
    preadv2 = bind("preadv2", "long", "int", "size_t", "int", "int64", "int");
  } catch {
    return () => -1;
  }
  const vector = new Uint32Array(32);
  const vectorAddress = addressOf(new Uint8Array(vector.buffer));
  return (fd, address, length, offset) => {
    vector[0] = address;
    vector[1] = address / 4_294_967_296;
    vector[2] = length;
    vector[3] = 0;
    return preadv2(fd, vectorAddress, 1, offset, RWF_NOWAIT);
  };
}

type Bind = (name: string, result: string, ...parameters: string[]) => Native;

function bindSockets(
  bind: Bind,
  address: (buffer: Uint8Array) => number,
  close: Native,
): Pick<SystemCalls, "socketpair" | "listen" | "connect" | "accept" | "send" | "receive"> {
  const socket = bind("socket", "int", "int", "int", "int");
  const setsockopt = bind("setsockopt", "int", "int", "int", "int", "size_t", "uint");
  const setTimeouts = (fd: number, timeoutMs: number): void => {
    const memory = new Uint8Array(128);
    const view = new DataView(memory.buffer);
    view.setBigInt64(0, BigInt(Math.floor(timeoutMs / 1000)), true);
    view.setBigInt64(8, BigInt((timeoutMs % 1000) * 1000), true);
    for (const option of [SO_RCVTIMEO, SO_SNDTIMEO]) setsockopt(fd, SOL_SOCKET, option, address(memory), 16);
  };
  const withAddress = (call: Native, fd: number, path: string): number => {
    const name = unixAddress(path);
    if (call(fd, address(name), name.length) === 0) return fd;
    close(fd);
    return -1;
  };
  const bindNative = bind("bind", "int", "int", "size_t", "uint");
  const connectNative = bind("connect", "int", "int", "size_t", "uint");
  const listenNative = bind("listen", "int", "int", "int");
  const acceptNative = bind("accept4", "int", "int", "size_t", "size_t", "int");
  const pair = bind("socketpair", "int", "int", "int", "int", "size_t");
  const sendmsg = bind("sendmsg", "long", "int", "size_t", "int");
  const recvmsg = bind("recvmsg", "long", "int", "size_t", "int");
  return {
    socketpair() {
      const memory = new Uint8Array(128);
      if (pair(AF_UNIX, SOCK_STREAM, 0, address(memory)) !== 0) return [-1, -1];
      const view = new DataView(memory.buffer);
      return [view.getInt32(0, true), view.getInt32(4, true)];
    },
    listen(path) {
      const fd = withAddress(bindNative, socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), path);
      return fd >= 0 && listenNative(fd, 64) === 0 ? fd : -1;
    },
    connect(path, timeoutMs) {
      const fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
      setTimeouts(fd, timeoutMs);
      return withAddress(connectNative, fd, path);
    },
    accept(fd, timeoutMs) {
      const client = acceptNative(fd, 0, 0, SOCK_CLOEXEC);
      if (client >= 0) setTimeouts(client, timeoutMs);
      return client;
    },
    send(fd, bytes, descriptors) {
      let sent = 0;
      while (sent < bytes.length) {
        const message = socketMessage(address, bytes.slice(sent), sent === 0 ? descriptors : []);
        const count = sendmsg(fd, message.address, MSG_NOSIGNAL);
        if (count < 0) return -1;
        sent += count;
      }
      return sent;
    },
    receive(fd, buffer, descriptors) {
      const message = socketMessage(
        address,
        new Uint8Array(buffer.length),
        Array.from({ length: MAX_DESCRIPTORS }, () => -1),
      );
      const count = recvmsg(fd, message.address, MSG_CMSG_CLOEXEC);
      if (count < 0) return -1;
      buffer.set(message.payload.subarray(0, count));
      message.takeDescriptors(descriptors);
      return count;
    },
  };
}

/** A `struct msghdr` with one buffer and room for descriptors (64-bit layout). */
function socketMessage(
  address: (buffer: Uint8Array) => number,
  bytes: Uint8Array,
  descriptors: readonly number[],
): { address: number; payload: Uint8Array; takeDescriptors(into: number[]): void } {
  const payload = new Uint8Array(Math.max(bytes.length, 128));
  payload.set(bytes);
  const control = new Uint8Array(Math.max(128, 16 + 4 * descriptors.length + 4));
  const controlView = new DataView(control.buffer);
  const controlLength = descriptors.length === 0 ? 0 : 16 + 4 * descriptors.length;
  controlView.setBigUint64(0, BigInt(controlLength), true);
  controlView.setInt32(8, SOL_SOCKET, true);
  controlView.setInt32(12, SCM_RIGHTS, true);
  descriptors.forEach((fd, i) => controlView.setInt32(16 + 4 * i, fd, true));
  const vector = new Uint8Array(128);
  const vectorView = new DataView(vector.buffer);
  vectorView.setBigUint64(0, BigInt(address(payload)), true);
  vectorView.setBigUint64(8, BigInt(bytes.length), true);
  const header = new Uint8Array(128);
  const view = new DataView(header.buffer);
  view.setBigUint64(16, BigInt(address(vector)), true);
  view.setBigUint64(24, 1n, true);
  if (controlLength > 0) view.setBigUint64(32, BigInt(address(control)), true);
  view.setBigUint64(40, BigInt(controlLength), true);
  return {
    address: address(header),
    payload,
    takeDescriptors(into) {
      const received = Number(view.getBigUint64(40, true));
      if (received < 16 || controlView.getInt32(12, true) !== SCM_RIGHTS) return;
      const length = Number(controlView.getBigUint64(0, true));
      for (let at = 16; at + 4 <= length; at += 4) into.push(controlView.getInt32(at, true));
      // Keeps the memory that the header points to alive until here.
      void vector;
      void payload;
    },
  };
}

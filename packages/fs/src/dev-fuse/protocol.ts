/**
 * The kernel's FUSE protocol, version 7.45, as far as a read-only file system meets it
 * (include/uapi/linux/fuse.h). All structures are little endian here: the driver runs on x64 and arm64.
 */

/** Kinds of requests. */
export const Opcode = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  SETXATTR: 21,
  GETXATTR: 22,
  LISTXATTR: 23,
  REMOVEXATTR: 24,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  ACCESS: 34,
  CREATE: 35,
  INTERRUPT: 36,
  DESTROY: 38,
  IOCTL: 39,
  POLL: 40,
  NOTIFY_REPLY: 41,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  LSEEK: 46,
  COPY_FILE_RANGE: 47,
  SYNCFS: 50,
  TMPFILE: 51,
  STATX: 52,
} as const;

/** Names of requests by opcode, for statistics. */
export const opcodeNames: readonly string[] = (() => {
  const names: string[] = Array.from({ length: 64 }, () => "other");
  for (const [name, opcode] of Object.entries(Opcode)) names[opcode] = name.toLowerCase();
  return names;
})();

/** Size of `fuse_in_header`; a request's arguments follow. */
export const IN_HEADER_BYTES = 40;
/** Size of `fuse_out_header`; a reply's payload follows. */
export const OUT_HEADER_BYTES = 16;
/** Size of `fuse_entry_out`. */
export const ENTRY_OUT_BYTES = 128;
/** Size of `fuse_attr_out`. */
export const ATTR_OUT_BYTES = 104;
/** Smallest buffer that the kernel accepts for reading requests, with max_write 4096. */
export const REQUEST_BUFFER_BYTES = 16_384;
/** The largest READ: 256 pages. */
export const MAX_READ_BYTES = 1_048_576;
/** A validity that never ends, in seconds. */
export const FOREVER_SECONDS = 0x7fffffff;

/** Places in a request (`fuse_in_header`). */
export const InHeader = {
  LENGTH: 0,
  OPCODE: 4,
  UNIQUE_LOW: 8,
  UNIQUE_HIGH: 12,
  NODE_LOW: 16,
  NODE_HIGH: 20,
  UID: 24,
  GID: 28,
  PID: 32,
} as const;

/** Flags of INIT, as bit numbers; from 32 on they are in `flags2`. */
export const InitFlag = {
  ASYNC_READ: 0,
  BIG_WRITES: 5,
  DO_READDIRPLUS: 13,
  READDIRPLUS_AUTO: 14,
  NO_OPEN_SUPPORT: 17,
  PARALLEL_DIROPS: 18,
  ABORT_ERROR: 21,
  MAX_PAGES: 22,
  CACHE_SYMLINKS: 23,
  NO_OPENDIR_SUPPORT: 24,
  EXPLICIT_INVAL_DATA: 25,
  INIT_EXT: 30,
  DIRECT_IO_ALLOW_MMAP: 36,
  PASSTHROUGH: 37,
  NO_EXPORT: 38,
  HAS_RESEND: 39,
  ALLOW_IDMAP: 40,
} as const;

/** Flags of a reply to OPEN and OPENDIR. */
export const OpenFlag = { DIRECT_IO: 1, KEEP_CACHE: 2, CACHE_DIR: 8, NOFLUSH: 32, PASSTHROUGH: 128 } as const;

/** Codes of notifications: they are written with unique 0 and the code in the place of the error. */
const Notify = { INVAL_INODE: 2, INVAL_ENTRY: 3, DELETE: 6, RESEND: 7 } as const;

/** Bit of a resent request's unique number (high half). */
export const RESENT_HIGH = 0x80000000;

/** ioctl requests on /dev/fuse. */
export const DeviceIoctl = { CLONE: 0x8004e500, BACKING_OPEN: 0x4010e501, BACKING_CLOSE: 0x4004e502 } as const;

/** nodeid of a connection's root. */
export const ROOT_NODE_ID = 1;
/**
 * Highest layer number. The kernel's 64-bit node number is `(layer + 1) * 2^32 + inode + 1`: known to every later process.
 */
export const MAX_LAYER_NUMBER = 0x000ffffe;

/** High half of the node numbers of a layer. */
export function nodeHigh(layerNumber: number): number {
  return layerNumber + 1;
}

/** Notification that makes the kernel send again what the former process had read and not answered. */
export function resendNotification(): Uint8Array {
  return notification(Notify.RESEND, new Uint8Array(0));
}

/** Notification that drops an inode's cached attributes and pages (a directory's listing). */
export function invalidateInodeNotification(nodeLow: number, nodeHighHalf: number): Uint8Array {
  const payload = new Uint8Array(24);
  const view = new DataView(payload.buffer);
  view.setUint32(0, nodeLow, true);
  view.setUint32(4, nodeHighHalf, true);
  return notification(Notify.INVAL_INODE, payload);
}

/** Notification that drops a name from a directory's cache. */
export function invalidateEntryNotification(parentLow: number, parentHigh: number, name: Uint8Array): Uint8Array {
  const payload = new Uint8Array(16 + name.length + 1);
  const view = new DataView(payload.buffer);
  view.setUint32(0, parentLow, true);
  view.setUint32(4, parentHigh, true);
  view.setUint32(8, name.length, true);
  payload.set(name, 16);
  return notification(Notify.INVAL_ENTRY, payload);
}

function notification(code: number, payload: Uint8Array): Uint8Array {
  const message = new Uint8Array(OUT_HEADER_BYTES + payload.length);
  const view = new DataView(message.buffer);
  view.setUint32(0, message.length, true);
  view.setInt32(4, code, true);
  message.set(payload, OUT_HEADER_BYTES);
  return message;
}

import { EstargzError } from "@estargz/interface";
import { IN_HEADER_BYTES, InHeader, InitFlag, MAX_READ_BYTES, Opcode, OUT_HEADER_BYTES } from "./protocol.ts";

/** What a connection is asked to be like. */
export interface HandshakeOptions {
  /** Files may be read from backing files by the kernel itself; needs OPEN requests, so no-open is not used. */
  readonly passthrough: boolean;
}

/** What was agreed with the kernel at a connection's INIT. Kept by the keeper: it is never asked again. */
export interface Handshake {
  /** Minor version of the protocol that both sides speak. */
  readonly minor: number;
  /** OPEN is answered with ENOSYS once, and never asked again. */
  readonly noOpen: boolean;
  /** OPENDIR likewise. */
  readonly noOpendir: boolean;
  readonly passthrough: boolean;
  /** The kernel sends requests again that a dead process had taken (6.9). */
  readonly resend: boolean;
  readonly idmap: boolean;
}

// Without ASYNC_DIO: its readers wait uninterruptibly, and could not be killed while bytes are missing.
const WANTED = [
  InitFlag.ASYNC_READ,
  InitFlag.BIG_WRITES,
  InitFlag.DO_READDIRPLUS,
  InitFlag.PARALLEL_DIROPS,
  InitFlag.ABORT_ERROR,
  InitFlag.MAX_PAGES,
  InitFlag.CACHE_SYMLINKS,
  InitFlag.EXPLICIT_INVAL_DATA,
  InitFlag.NO_OPENDIR_SUPPORT,
  InitFlag.INIT_EXT,
  InitFlag.DIRECT_IO_ALLOW_MMAP,
  InitFlag.NO_EXPORT,
  InitFlag.HAS_RESEND,
  InitFlag.ALLOW_IDMAP,
] as const;

const MAX_BACKGROUND = 1024;
const CONGESTION_THRESHOLD = 768;
const MAX_PAGES = MAX_READ_BYTES / 4096;
/** Oldest protocol that the driver speaks: 7.28 (Linux 4.20) has max_pages and cached symlinks. */
const OLDEST_MINOR = 28;
const NEWEST_MINOR = 45;

/**
 * Answers a connection's first request.
 *
 * @param request - The INIT request as it was read.
 * @throws `UNSUPPORTED` for a kernel older than Linux 4.20, `INVALID_ARGUMENT` for another request.
 */
export function answerInit(request: Uint8Array, options: HandshakeOptions): { reply: Uint8Array; handshake: Handshake } {
  const view = new DataView(request.buffer, request.byteOffset, request.byteLength);
  if (request.length < IN_HEADER_BYTES + 16 || view.getUint32(InHeader.OPCODE, true) !== Opcode.INIT) {
    throw new EstargzError("INVALID_ARGUMENT", "the first request of a FUSE connection is not INIT");
  }
  const major = view.getUint32(IN_HEADER_BYTES, true);
  const kernelMinor = view.getUint32(IN_HEADER_BYTES + 4, true);
  if (major !== 7 || kernelMinor < OLDEST_MINOR) {
    throw new EstargzError(
      "UNSUPPORTED",
      `the kernel speaks FUSE ${major}.${kernelMinor}, 7.${OLDEST_MINOR} is needed (Linux 4.20): use the fuse-native driver`,
    );
  }
  const offeredLow = view.getUint32(IN_HEADER_BYTES + 12, true);
  const hasExtension = request.length >= IN_HEADER_BYTES + 20;
  const offeredHigh = hasExtension ? view.getUint32(IN_HEADER_BYTES + 16, true) : 0;
  const offers = (bit: number): boolean => ((bit < 32 ? offeredLow >>> bit : offeredHigh >>> (bit - 32)) & 1) === 1;
  const passthrough = options.passthrough && offers(InitFlag.PASSTHROUGH);
  const noOpen = !passthrough && offers(InitFlag.NO_OPEN_SUPPORT);
  const bits: number[] = WANTED.filter(offers);
  if (passthrough) bits.push(InitFlag.PASSTHROUGH);
  if (noOpen) bits.push(InitFlag.NO_OPEN_SUPPORT);

  const minor = Math.min(kernelMinor, NEWEST_MINOR);
  const reply = new Uint8Array(OUT_HEADER_BYTES + 64);
  const out = new DataView(reply.buffer);
  out.setUint32(0, reply.length, true);
  reply.set(request.subarray(InHeader.UNIQUE_LOW, InHeader.UNIQUE_LOW + 8), 8);
  out.setUint32(16, 7, true);
  out.setUint32(20, minor, true);
  out.setUint32(24, view.getUint32(IN_HEADER_BYTES + 8, true), true);
  out.setUint32(28, flagsOf(bits, 0), true);
  out.setUint16(32, MAX_BACKGROUND, true);
  out.setUint16(34, CONGESTION_THRESHOLD, true);
  out.setUint32(36, 4096, true);
  out.setUint32(40, 1, true);
  out.setUint16(44, MAX_PAGES, true);
  out.setUint32(48, flagsOf(bits, 32), true);
  out.setUint32(52, passthrough ? 1 : 0, true);
  return {
    reply,
    handshake: {
      minor,
      noOpen,
      noOpendir: offers(InitFlag.NO_OPENDIR_SUPPORT),
      passthrough,
      resend: offers(InitFlag.HAS_RESEND),
      idmap: offers(InitFlag.ALLOW_IDMAP),
    },
  };
}

function flagsOf(bits: readonly number[], first: number): number {
  let flags = 0;
  for (const bit of bits) if (bit >= first && bit < first + 32) flags |= 1 << (bit - first);
  return flags >>> 0;
}

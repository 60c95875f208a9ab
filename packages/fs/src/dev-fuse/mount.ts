import { spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { EstargzError } from "@estargz/interface";
import { answerInit, type Handshake } from "./handshake.ts";
import { findMount, setReadAhead } from "./mount-table.ts";
import { REQUEST_BUFFER_BYTES } from "./protocol.ts";
import { Errno, type SystemCalls } from "./system-calls.ts";

const O_RDWR = 2;
const O_NONBLOCK = 0o4000;
const MS_RDONLY = 1;
const MS_NOSUID = 2;
const MS_NODEV = 4;
const MS_NOATIME = 1024;
const MNT_DETACH = 2;
const READ_AHEAD_KIB = 1024;
const FILE_SYSTEM_TYPE = "fuse.estargz";
const INIT_TIMEOUT_MS = 10_000;

/** Options of {@link mountConnection}. */
export interface MountOptions {
  readonly mountPath: string;
  readonly passthrough: boolean;
  /** `direct` calls mount(2), `fusermount` the setuid program fusermount3. */
  readonly method: "direct" | "fusermount";
  /** Whether other users may read what is mounted. */
  readonly allowOther: boolean;
}

/** A mounted connection. */
export interface MountedConnection {
  readonly fd: number;
  readonly handshake: Handshake;
}

/**
 * Mounts a directory on a new connection and agrees on the protocol. Nothing else is answered yet.
 *
 * @throws `PERMISSION_DENIED`, `UNSUPPORTED` or `MOUNT_FAILED`.
 */
export async function mountConnection(systemCalls: SystemCalls, options: MountOptions): Promise<MountedConnection> {
  mkdirSync(options.mountPath, { recursive: true, mode: 0o755 });
  const fd = options.method === "direct" ? mountDirectly(systemCalls, options) : await mountByFusermount(systemCalls, options);
  try {
    const { reply, handshake } = answerInit(await readInit(systemCalls, fd), options);
    if (systemCalls.write(fd, systemCalls.address(reply), reply.length) !== reply.length) {
      throw new EstargzError("MOUNT_FAILED", `the kernel refuses the answer to INIT (errno ${systemCalls.errno()})`);
    }
    const mounted = findMount(options.mountPath);
    if (mounted !== undefined) setReadAhead(mounted.device, READ_AHEAD_KIB);
    return { fd, handshake };
  } catch (error) {
    systemCalls.close(fd);
    await unmountPath(systemCalls, options.mountPath);
    throw error;
  }
}

function mountDirectly(systemCalls: SystemCalls, options: MountOptions): number {
  const fd = systemCalls.open("/dev/fuse", O_RDWR | O_NONBLOCK);
  if (fd < 0) throw openFailed(systemCalls.errno());
  const data = `fd=${fd},rootmode=40755,user_id=${process.getuid?.() ?? 0},group_id=${process.getgid?.() ?? 0},default_permissions${options.allowOther ? ",allow_other" : ""}`;
  const flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOATIME;
  if (systemCalls.mount("estargz", options.mountPath, FILE_SYSTEM_TYPE, flags, data) === 0) return fd;
  const errno = systemCalls.errno();
  systemCalls.close(fd);
  const advice = errno === Errno.EPERM ? ': run as root, or mount with fusermount3 (method "fusermount")' : "";
  throw new EstargzError(
    errno === Errno.EPERM ? "PERMISSION_DENIED" : "MOUNT_FAILED",
    `cannot mount ${options.mountPath} (errno ${errno})${advice}`,
    {
      details: { errno },
    },
  );
}

function openFailed(errno: number): EstargzError {
  if (errno === Errno.EACCES || errno === Errno.EPERM) {
    return new EstargzError("PERMISSION_DENIED", "/dev/fuse may not be opened by this user: run as root, or give the device mode 0666");
  }
  return new EstargzError("UNSUPPORTED", `/dev/fuse cannot be opened (errno ${errno}): load the kernel's fuse module`);
}

/** fusermount3 mounts for a user and sends the descriptor over a socket that it inherits. */
async function mountByFusermount(systemCalls: SystemCalls, options: MountOptions): Promise<number> {
  const [ours, theirs] = systemCalls.socketpair();
  if (ours < 0) throw new EstargzError("MOUNT_FAILED", `socketpair failed (errno ${systemCalls.errno()})`);
  const flags = `ro,nosuid,nodev,fsname=estargz,subtype=estargz,default_permissions${options.allowOther ? ",allow_other" : ""}`;
  try {
    await runFusermount(["-o", flags, "--", options.mountPath], theirs);
    const descriptors: number[] = [];
    systemCalls.setNonBlocking(ours);
    systemCalls.receive(ours, new Uint8Array(1), descriptors);
    const [fd] = descriptors;
    if (fd === undefined) throw new EstargzError("MOUNT_FAILED", "fusermount3 mounted, but sent no descriptor");
    systemCalls.setNonBlocking(fd);
    return fd;
  } finally {
    systemCalls.close(ours);
    systemCalls.close(theirs);
  }
}

function runFusermount(args: readonly string[], socket?: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn("fusermount3", args, {
      stdio: ["ignore", "ignore", "pipe", ...(socket === undefined ? [] : [socket])],
      env: { ...process.env, ...(socket === undefined ? {} : { _FUSE_COMMFD: "3" }) },
    });
    let text = "";
    child.stderr?.on("data", (part: Buffer) => {
      text += part.toString();
    });
    child.once("error", (cause) =>
      reject(new EstargzError("MOUNT_FAILED", "fusermount3 cannot be started: install the package fuse3", { cause })),
    );
    child.once("close", (code) => {
      if (code === 0) resolve();
      else reject(new EstargzError("MOUNT_FAILED", `fusermount3 failed: ${text.trim() || `exit code ${code}`}`));
    });
  });
}

/** INIT is there as soon as the mount is made; it is asked for a while all the same. */
async function readInit(systemCalls: SystemCalls, fd: number): Promise<Uint8Array> {
  const buffer = new Uint8Array(REQUEST_BUFFER_BYTES);
  const address = systemCalls.address(buffer);
  for (const started = Date.now(); Date.now() - started < INIT_TIMEOUT_MS; ) {
    const length = systemCalls.read(fd, address, buffer.length);
    if (length > 0) return buffer.subarray(0, length);
    const errno = systemCalls.errno();
    if (errno !== Errno.EAGAIN && errno !== Errno.EINTR) throw new EstargzError("MOUNT_FAILED", `INIT cannot be read (errno ${errno})`);
    await sleep(2);
  }
  throw new EstargzError("MOUNT_FAILED", `the kernel sent no INIT within ${INIT_TIMEOUT_MS} ms`);
}

/** Takes a mount out of the tree at once; who uses it keeps it until the connection's descriptors are closed. */
export async function unmountPath(systemCalls: SystemCalls, mountPath: string): Promise<boolean> {
  if (systemCalls.unmount(mountPath, MNT_DETACH) === 0) return true;
  if (systemCalls.errno() !== Errno.EPERM) return false;
  return runFusermount(["-u", "-z", "--", mountPath]).then(
    () => true,
    () => false,
  );
}

import { chmod, mkdir, rm } from "node:fs/promises";
import { createServer, type Http2Server, type ServerHttp2Session } from "node:http2";
import { connect } from "node:net";
import { dirname } from "node:path";
import type { ConnectRouter } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { EstargzError } from "@estargz/interface";

/** A gRPC server on a unix socket. */
export interface GrpcServer {
  readonly address: string;
  /** Lets calls in flight end for `graceMs` (default 5,000), then ends them; removes the socket. Idempotent. */
  close(graceMs?: number): Promise<void>;
}

/** Options of {@link serveGrpc}. */
export interface ServeGrpcOptions {
  /** Uses the socket that systemd holds (socket activation), if there is one: calls wait while this process restarts. Default false. */
  readonly acceptInherited?: boolean | undefined;
}

function accepts(address: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(address);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

/** The socket that systemd holds for this process (`sd_listen_fds`), when it is the only one. */
function inheritedSocket(): number | undefined {
  const { LISTEN_PID: pid, LISTEN_FDS: count } = process.env;
  return pid === String(process.pid) && count === "1" ? FIRST_INHERITED : undefined;
}

const FIRST_INHERITED = 3;

async function listen(server: Http2Server, where: string | { readonly fd: number }): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(where, () => {
      server.removeListener("error", reject);
      resolve();
    });
  });
}

/**
 * Serves gRPC on a unix socket that only root can use. A socket that nobody listens on any more is replaced.
 *
 * @throws `IO_ERROR` when another process serves the address, or it can't be used.
 */
export async function serveGrpc(
  address: string,
  routes: (router: ConnectRouter) => void,
  options: ServeGrpcOptions = {},
): Promise<GrpcServer> {
  const inherited = options.acceptInherited === true ? inheritedSocket() : undefined;
  if (inherited === undefined && (await accepts(address))) {
    throw new EstargzError("IO_ERROR", `${address} is served by another process: stop it, or give another --address`);
  }
  const handler = connectNodeAdapter({ routes, grpc: true, connect: false, grpcWeb: false });
  const server = createServer({ settings: { maxConcurrentStreams: 1000 } }, handler);
  const sessions = new Set<ServerHttp2Session>();
  server.on("session", (session) => {
    sessions.add(session);
    session.once("close", () => sessions.delete(session));
    session.on("error", () => session.destroy());
  });
  try {
    if (inherited === undefined) {
      await mkdir(dirname(address), { recursive: true, mode: 0o711 });
      await rm(address, { force: true });
      await listen(server, address);
      await chmod(address, 0o600);
    } else await listen(server, { fd: inherited });
  } catch (error) {
    server.close();
    throw new EstargzError("IO_ERROR", `cannot listen on ${address}`, { cause: error });
  }
  let closing: Promise<void> | undefined;
  const close = async (graceMs: number): Promise<void> => {
    const ended = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const session of sessions) session.close();
    const timer = setTimeout(() => {
      for (const session of sessions) session.destroy();
    }, graceMs);
    await ended;
    clearTimeout(timer);
  };
  return {
    address,
    close: (graceMs = 5000) => {
      closing ??= close(graceMs);
      return closing;
    },
  };
}

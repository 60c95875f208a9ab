import { chmodSync, renameSync, statSync } from "node:fs";
import { Errno, type SystemCalls } from "../dev-fuse/system-calls.ts";
import { callKeeper, receiveMessage } from "./keeper-call.ts";
import { encodeMessage, KEEPER_PROTOCOL, type KeeperReply, type KeeperRequest, MAX_KEPT } from "./keeper-protocol.ts";

/** Time a client has to send its message, in milliseconds. */
const CLIENT_TIMEOUT_MS = 2000;
/** Watching connections that are held; older ones are let go of. */
const MAX_WATCHERS = 16;

/** Time after which a failed accept is tried again, in milliseconds. */
const ACCEPT_PAUSE_MS = 50;
/** Default of `graceMs`, in milliseconds. */
const KEEPER_GRACE_MS = 600_000;
const pause = new Int32Array(new SharedArrayBuffer(4));

/** Options of {@link KeeperServer.listen}. */
export interface KeeperServerOptions {
  /**
   * How long nobody can have reached this keeper (its socket is not at its path any more, and no daemon is connected) before it ends,
   * with all it holds. Default 600,000.
   */
  readonly graceMs?: number | undefined;
}

interface Kept {
  readonly fd: number;
  readonly note: unknown;
}

/**
 * Holds descriptors of FUSE connections so that they outlive the daemon. Does one thing after the other, without event
 * loop, timers or threads: there is nothing in it to go wrong.
 */
export class KeeperServer {
  readonly #systemCalls: SystemCalls;
  readonly #kept = new Map<string, Kept>();
  readonly #watchers: number[] = [];
  readonly #socket: number;
  readonly #socketPath: string;
  readonly #graceMs: number;
  readonly #epoll: number;
  /** Number of the socket's file. */
  #file: number | undefined;
  #forsakenSinceMs: number | undefined;

  private constructor(systemCalls: SystemCalls, socket: number, socketPath: string, graceMs: number) {
    this.#systemCalls = systemCalls;
    this.#socket = socket;
    this.#socketPath = socketPath;
    this.#graceMs = graceMs;
    this.#epoll = systemCalls.epollCreate();
    systemCalls.epollAdd(this.#epoll, socket, false);
  }

  /**
   * Listens on a path. Takes over everything from a keeper that listens there already, which then ends: an upgrade.
   *
   * @throws Error when the path cannot be listened on.
   */
  static listen(systemCalls: SystemCalls, socketPath: string, options: KeeperServerOptions = {}): KeeperServer {
    const former = callKeeper(systemCalls, socketPath, { command: "list" });
    const temporary = `${socketPath}.${process.pid}`;
    const socket = systemCalls.listen(temporary);
    if (socket < 0) throw new Error(`cannot listen on ${temporary} (errno ${systemCalls.errno()})`);
    chmodSync(temporary, 0o600);
    const server = new KeeperServer(systemCalls, socket, socketPath, options.graceMs ?? KEEPER_GRACE_MS);
    former?.reply.entries?.forEach(({ name, note }, i) => {
      const fd = former.descriptors[i];
      if (fd !== undefined) server.#kept.set(name, { fd, note });
    });
    // From here on clients reach this keeper. What the former one was given meanwhile is fetched once more.
    if (former === undefined) renameSync(temporary, socketPath);
    else server.#replace(socketPath, temporary);
    server.#file = fileNumber(socketPath);
    return server;
  }

  /** Moves the socket into the former keeper's place, takes what it holds by now, and ends it. */
  #replace(socketPath: string, temporary: string): void {
    const systemCalls = this.#systemCalls;
    const link = systemCalls.connect(socketPath, CLIENT_TIMEOUT_MS);
    renameSync(temporary, socketPath);
    if (link < 0) return;
    const descriptors: number[] = [];
    systemCalls.send(link, encodeMessage({ command: "stop" }), []);
    const reply = receiveMessage(systemCalls, link, descriptors) as KeeperReply | undefined;
    systemCalls.close(link);
    if (reply?.entries === undefined) return;
    for (const kept of this.#kept.values()) systemCalls.close(kept.fd);
    this.#kept.clear();
    reply.entries.forEach(({ name, note }, i) => {
      const fd = descriptors[i];
      if (fd !== undefined) this.#kept.set(name, { fd, note });
    });
  }

  /** Serves one client after the other until a successor stops it, or nobody can reach it any more. */
  run(): void {
    const ready: number[] = [];
    while (!this.#isForsaken()) {
      this.#systemCalls.epollWait(this.#epoll, ready, Math.max(10, Math.ceil(this.#graceMs / 4)));
      for (const fd of ready) if (fd !== this.#socket) this.#leaveWatcher(fd);
      if (ready.includes(this.#socket) && this.#serveNext() === "stop") return;
    }
  }

  #serveNext(): "done" | "stop" {
    const client = this.#systemCalls.accept(this.#socket, CLIENT_TIMEOUT_MS);
    if (client < 0) {
      // No descriptor is left, or no memory: asking again at once would only take a whole processor.
      if (this.#systemCalls.errno() !== Errno.EINTR) Atomics.wait(pause, 0, 0, ACCEPT_PAUSE_MS);
      return "done";
    }
    const outcome = this.#serve(client);
    if (outcome === "watching") this.#systemCalls.epollAdd(this.#epoll, client, false);
    else this.#systemCalls.close(client);
    return outcome === "stop" ? "stop" : "done";
  }

  /** A watching connection says something only by its end. */
  #leaveWatcher(fd: number): void {
    const at = this.#watchers.indexOf(fd);
    if (at < 0) return;
    this.#watchers.splice(at, 1);
    this.#systemCalls.close(fd);
  }

  /** Whether no daemon was connected, and none could connect, for the whole grace time. */
  #isForsaken(): boolean {
    if (this.#watchers.length > 0 || (this.#file !== undefined && fileNumber(this.#socketPath) === this.#file)) {
      this.#forsakenSinceMs = undefined;
      return false;
    }
    this.#forsakenSinceMs ??= performance.now();
    return performance.now() - this.#forsakenSinceMs >= this.#graceMs;
  }

  #serve(client: number): "done" | "watching" | "stop" {
    const systemCalls = this.#systemCalls;
    const received: number[] = [];
    try {
      const request = receiveMessage(systemCalls, client, received) as KeeperRequest | undefined;
      if (request === undefined) return "done";
      const { reply, descriptors } = this.#answer(request, received);
      systemCalls.send(client, encodeMessage(reply), descriptors);
      if (request.command === "stop") return "stop";
      if (request.command !== "watch") return "done";
      this.#watchers.push(client);
      const oldest = this.#watchers.length > MAX_WATCHERS ? this.#watchers.shift() : undefined;
      if (oldest !== undefined) systemCalls.close(oldest);
      return "watching";
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      systemCalls.send(client, encodeMessage({ ...this.#hello(), error: message }), []);
      return "done";
    } finally {
      for (const fd of received) systemCalls.close(fd);
    }
  }

  #hello(): KeeperReply {
    return { protocol: KEEPER_PROTOCOL, pid: process.pid };
  }

  /** Descriptors that are kept are taken out of `received`. */
  #answer(request: KeeperRequest, received: number[]): { reply: KeeperReply; descriptors: readonly number[] } {
    const reply = this.#hello();
    switch (request.command) {
      case "hello":
      case "watch":
        return { reply, descriptors: [] };
      case "list":
      case "stop": {
        const all = [...this.#kept];
        return { reply: { ...reply, entries: all.map(([name, { note }]) => ({ name, note })) }, descriptors: all.map(([, { fd }]) => fd) };
      }
      case "put": {
        if (this.#kept.size >= MAX_KEPT && !this.#kept.has(request.name))
          return { reply: { ...reply, error: `it holds ${MAX_KEPT} descriptors already` }, descriptors: [] };
        const fd = received.shift();
        if (fd === undefined) return { reply: { ...reply, error: "no descriptor was sent" }, descriptors: [] };
        this.#forget(request.name);
        this.#kept.set(request.name, { fd, note: request.note });
        return { reply, descriptors: [] };
      }
      case "remove":
        this.#forget(request.name);
        return { reply, descriptors: [] };
      default:
        return { reply: { ...reply, error: "it does not know this command" }, descriptors: [] };
    }
  }

  #forget(name: string): void {
    const kept = this.#kept.get(name);
    if (kept === undefined) return;
    this.#kept.delete(name);
    this.#systemCalls.close(kept.fd);
  }
}

function fileNumber(path: string): number | undefined {
  try {
    return statSync(path).ino;
  } catch {
    return undefined;
  }
}

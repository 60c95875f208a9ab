import { spawn } from "node:child_process";
import { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { EstargzError, type Logger, noLogger } from "@estargz/interface";
import type { SystemCalls } from "../dev-fuse/system-calls.ts";
import { callKeeper, openWatch } from "./keeper-call.ts";
import type { KeptEntry } from "./keeper-protocol.ts";

const START_TIMEOUT_MS = 60_000;

/** Options of {@link KeeperClient.connect}. */
export interface KeeperOptions {
  /** Where the keeper listens: a path of at most 90 bytes in a directory that only this user may enter. */
  readonly socketPath: string;
  /**
   * Whether a keeper is started when none listens. Turn it off where the keeper is a unit of its own: a child of the
   * daemon would be ended together with the daemon's unit. Default true.
   */
  readonly start?: boolean | undefined;
  /**
   * How long a keeper that is started here goes on when its socket was removed and no daemon is connected: nobody can get back what
   * it holds. Default 600,000.
   */
  readonly graceMs?: number | undefined;
}

/** A descriptor that was taken back. */
export interface TakenDescriptor extends KeptEntry {
  readonly fd: number;
}

/** The daemon's side of a keeper. When the keeper dies, a new one is started and given everything again. */
export class KeeperClient {
  readonly #systemCalls: SystemCalls;
  readonly #options: KeeperOptions;
  readonly #logger: Logger;
  readonly #mine = new Map<string, { readonly fd: number; readonly note: unknown }>();
  #watch: Socket | undefined;
  #closed = false;
  #restoring: Promise<void> | undefined;

  private constructor(systemCalls: SystemCalls, options: KeeperOptions, logger: Logger) {
    this.#systemCalls = systemCalls;
    this.#options = options;
    this.#logger = logger;
  }

  /**
   * Reaches the keeper, and starts one if there is none.
   *
   * @throws `UNAVAILABLE` when there is none.
   */
  static async connect(systemCalls: SystemCalls, options: KeeperOptions, logger: Logger = noLogger): Promise<KeeperClient> {
    const client = new KeeperClient(systemCalls, options, logger);
    do await client.#reach();
    while (!client.#watchKeeper());
    return client;
  }

  async #reach(): Promise<void> {
    const { socketPath } = this.#options;
    let started = false;
    for (const begun = Date.now(); Date.now() - begun < START_TIMEOUT_MS; await sleep(20)) {
      if (callKeeper(this.#systemCalls, socketPath, { command: "hello" }) !== undefined) return;
      if (this.#options.start !== false && !started) startKeeper(socketPath, this.#options.graceMs);
      started = true;
    }
    throw new EstargzError("UNAVAILABLE", `no keeper listens on ${socketPath}: start estargz-keeper`);
  }

  /** A connection that stays open: its end is the keeper's end. Made in one go, as the keeper serves one client at a time. */
  #watchKeeper(): boolean {
    const fd = openWatch(this.#systemCalls, this.#options.socketPath);
    if (fd < 0) return false;
    const socket = new Socket({ fd, readable: true, writable: false });
    this.#watch = socket;
    socket.on("error", () => {});
    socket.once("close", () => {
      if (!this.#closed) this.#restoring ??= this.#restore().finally(() => (this.#restoring = undefined));
    });
    socket.resume();
    socket.unref();
    return true;
  }

  /** The keeper is gone: it was replaced by a newer one, or it died. */
  async #restore(): Promise<void> {
    try {
      do {
        await this.#reach();
        this.#depositAll();
      } while (!this.#closed && !this.#watchKeeper());
    } catch (error) {
      this.#logger.error({ err: error }, "the keeper is gone and no new one can be reached: a restart will end the mounts");
    }
  }

  /** Gives the keeper what it does not hold yet. */
  #depositAll(): void {
    const { socketPath } = this.#options;
    const answer = callKeeper(this.#systemCalls, socketPath, { command: "list" });
    for (const fd of answer?.descriptors ?? []) this.#systemCalls.close(fd);
    const held = new Set(answer?.reply.entries?.map(({ name }) => name));
    for (const [name, { fd, note }] of this.#mine) {
      if (!held.has(name)) callKeeper(this.#systemCalls, socketPath, { command: "put", name, note }, [fd]);
    }
    this.#logger.info({ pid: answer?.reply.pid, kept: this.#mine.size }, "another keeper holds the mounts now");
  }

  /** Process number of the keeper. */
  get pid(): number | undefined {
    return callKeeper(this.#systemCalls, this.#options.socketPath, { command: "hello" })?.reply.pid;
  }

  /** Takes everything back: copies of the descriptors, which now belong to the caller. */
  take(): readonly TakenDescriptor[] {
    const answer = callKeeper(this.#systemCalls, this.#options.socketPath, { command: "list" });
    return (answer?.reply.entries ?? []).flatMap(({ name, note }, i) => {
      const fd = answer?.descriptors[i];
      if (fd === undefined) return [];
      this.#mine.set(name, { fd, note });
      return [{ name, note, fd }];
    });
  }

  /** Deposits a descriptor. It stays open here, and must until it is removed. */
  put(name: string, fd: number, note: unknown): void {
    this.#mine.set(name, { fd, note });
    const answer = callKeeper(this.#systemCalls, this.#options.socketPath, { command: "put", name, note }, [fd]);
    if (answer === undefined) this.#logger.warn({ name }, "the keeper is gone: it is given the mount when it is back");
  }

  /** Lets the keeper close a descriptor. */
  remove(name: string): void {
    this.#mine.delete(name);
    callKeeper(this.#systemCalls, this.#options.socketPath, { command: "remove", name });
  }

  /** Stops watching. The keeper goes on; with `end` a keeper that holds nothing and was for us to start is ended too. */
  async close(options: { readonly end?: boolean } = {}): Promise<void> {
    this.#closed = true;
    this.#watch?.destroy();
    await this.#restoring;
    if (options.end !== true || this.#options.start === false) return;
    const { socketPath } = this.#options;
    const answer = callKeeper(this.#systemCalls, socketPath, { command: "list" });
    for (const fd of answer?.descriptors ?? []) this.#systemCalls.close(fd);
    if (answer?.descriptors.length === 0) callKeeper(this.#systemCalls, socketPath, { command: "stop" });
  }
}

/** Starts a keeper in a session of its own. */
function startKeeper(socketPath: string, graceMs: number | undefined): void {
  const fromSource = import.meta.url.endsWith(".ts");
  const main = fileURLToPath(new URL(fromSource ? "./keeper-process.ts" : "./keeper-process.js", import.meta.url));
  const flags = ["--no-memory-protection-keys", "--max-semi-space-size=1", ...(fromSource ? ["--conditions=@estargz/source"] : [])];
  const child = spawn(process.execPath, [...flags, main, socketPath, ...(graceMs === undefined ? [] : [String(graceMs / 1000)])], {
    detached: true,
    stdio: "ignore",
    env: { PATH: process.env["PATH"] },
  });
  child.on("error", () => {});
  child.unref();
}

import { MessageChannel, type MessagePort, Worker } from "node:worker_threads";
import { EstargzError } from "@estargz/interface";
import type { MissRequest } from "./request-handler.ts";
import type { ConnectionMessage } from "./served-connection.ts";
import type { LayerMessage } from "./served-layer.ts";
import { CONTROL_BYTES, ControlWord, type FromSession, MAX_WORKERS, type SessionStart, type ToSession } from "./session-messages.ts";
import { STATISTICS_BYTES } from "./session-statistics.ts";
import type { SystemCalls } from "./system-calls.ts";

/** What workers give to the main thread. */
export type SessionEvent = Exclude<FromSession, { readonly type: "done" }>;

/** Options of {@link SessionPool.start}. */
export interface SessionPoolOptions {
  readonly systemCalls: SystemCalls;
  /** Threads that look for requests at a time. */
  readonly workers: number;
  /** Threads that take the place of one that waits for the disk. At most 16 threads in all. */
  readonly spares: number;
  /** Tries to read the next request before a worker sleeps. */
  readonly spins: number;
  /** Whether workers run before all ordinary threads, if that is permitted. */
  readonly realTime: boolean;
  readonly onEvent: (event: SessionEvent) => void;
  /** A worker ended by itself: its requests are lost to this process. */
  readonly onFailure: (error: Error) => void;
}

/** A message that is answered once by every worker. */
type Ticketed =
  | { readonly type: "connection"; readonly connection: ConnectionMessage }
  | { readonly type: "attach"; readonly key: string; readonly layer: LayerMessage }
  | { readonly type: "hide"; readonly key: string; readonly layer: number }
  | { readonly type: "ready" };

interface Session {
  readonly worker: Worker;
  readonly port: MessagePort;
  readonly eventfd: number;
  readonly exited: Promise<void>;
  /** Whether it ended by itself. */
  failed: boolean;
}

const one = new Uint8Array(128);
one[0] = 1;

/** The workers that serve all connections of a driver. */
export class SessionPool {
  readonly statistics: SharedArrayBuffer;
  readonly #options: SessionPoolOptions;
  readonly #control = new SharedArrayBuffer(CONTROL_BYTES);
  readonly #words = new Int32Array(this.#control);
  readonly #sessions: Session[] = [];
  readonly #tickets = new Map<number, { left: number; resolve: () => void; reject: (error: EstargzError) => void }>();
  #lastTicket = 0;
  #next = 0;
  #closed = false;
  #failure: EstargzError | undefined;

  private constructor(options: SessionPoolOptions) {
    this.#options = options;
    this.statistics = new SharedArrayBuffer(STATISTICS_BYTES * (options.workers + options.spares + 1));
  }

  /** Starts the workers. */
  static start(options: SessionPoolOptions): SessionPool {
    const threads = options.workers + options.spares;
    if (threads > MAX_WORKERS) {
      throw new EstargzError("INVALID_ARGUMENT", `workers and spareWorkers are ${threads}, allowed are ${MAX_WORKERS} together`);
    }
    const pool = new SessionPool(options);
    for (let worker = 0; worker < threads; worker += 1) pool.#sessions.push(pool.#startWorker(worker));
    // A worker that sleeps in a system call would keep process.exit() waiting for ever.
    process.on("exit", pool.#stopNow);
    return pool;
  }

  #startWorker(worker: number): Session {
    const { systemCalls, spins, realTime, workers: leaders } = this.#options;
    const eventfd = systemCalls.eventfd();
    const { port1, port2 } = new MessageChannel();
    const start: SessionStart = { leaders, control: this.#control, statistics: this.statistics, worker, eventfd, spins, realTime };
    const fromSource = import.meta.url.endsWith(".ts");
    const thread = new Worker(new URL(fromSource ? "./session-worker.ts" : "./session-worker.js", import.meta.url), {
      workerData: { start, port: port2 },
      transferList: [port2],
      name: `estargz-fuse-${worker}`,
      ...(fromSource ? { execArgv: ["--conditions=@estargz/source"] } : {}),
    });
    port1.on("message", (message: FromSession) => this.#receive(message));
    const exited = new Promise<number>((resolve) => thread.once("exit", resolve));
    const session: Session = { worker: thread, port: port1, eventfd, exited: exited.then(() => undefined), failed: false };
    thread.once("error", (error) => this.#fail(session, error instanceof Error ? error : new Error(String(error))));
    void exited.then((code) => {
      if (!this.#closed) this.#fail(session, new Error(`thread ${worker} of the file system ended (${code})`));
    });
    return session;
  }

  /** A worker ended by itself: what it was told is never answered. */
  #fail(session: Session, error: Error): void {
    if (session.failed) return;
    session.failed = true;
    this.#failure ??= new EstargzError("UNAVAILABLE", "a thread of the file system ended: restart the process", { cause: error });
    for (const ticket of this.#tickets.values()) ticket.reject(this.#failure);
    this.#tickets.clear();
    this.#options.onFailure(error);
  }

  #receive(message: FromSession): void {
    if (message.type !== "done") {
      this.#options.onEvent(message);
      return;
    }
    const ticket = this.#tickets.get(message.ticket);
    if (ticket === undefined) return;
    ticket.left -= 1;
    if (ticket.left > 0) return;
    this.#tickets.delete(message.ticket);
    ticket.resolve();
  }

  #send(worker: number, message: ToSession): void {
    const session = this.#sessions[worker];
    if (session === undefined || this.#closed) return;
    session.port.postMessage(message);
    Atomics.store(this.#words, ControlWord.MAIL + worker, 1);
    this.#wake(session);
  }

  #wake(session: Session): void {
    const { systemCalls } = this.#options;
    systemCalls.write(session.eventfd, systemCalls.address(one), 8);
    Atomics.add(this.#words, ControlWord.CALLS, 1);
    Atomics.notify(this.#words, ControlWord.CALLS);
  }

  /**
   * Tells all workers, and resolves when each has done it.
   *
   * @throws `UNAVAILABLE` when a worker has ended by itself, `CLOSED`.
   */
  tell(message: Ticketed): Promise<void> {
    if (this.#closed) return Promise.reject(new EstargzError("CLOSED", "the driver is closed"));
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    this.#lastTicket += 1;
    const ticket = this.#lastTicket;
    return new Promise((resolve, reject) => {
      this.#tickets.set(ticket, { left: this.#sessions.length, resolve, reject });
      for (let worker = 0; worker < this.#sessions.length; worker += 1) this.#send(worker, { ...message, ticket });
    });
  }

  /** Takes a layer from all workers for good. */
  remove(key: string, layer: number): void {
    for (let worker = 0; worker < this.#sessions.length; worker += 1) this.#send(worker, { type: "remove", key, layer });
  }

  /** Gives a request back to a worker: its bytes are local now. */
  retry(key: string, request: MissRequest): void {
    this.settled();
    for (let tries = 0; tries < this.#sessions.length; tries += 1) {
      this.#next = (this.#next + 1) % this.#sessions.length;
      if (this.#sessions[this.#next]?.failed === false) break;
    }
    this.#send(this.#next, { type: "retry", key, request });
  }

  /** Says that a miss is not in the main thread's hands any more. */
  settled(): void {
    Atomics.sub(this.#words, ControlWord.OUTSTANDING, 1);
  }

  /** Number of workers. */
  get size(): number {
    return this.#sessions.length;
  }

  readonly #stopNow = (): void => {
    Atomics.store(this.#words, ControlWord.STOP, 1);
    for (const session of this.#sessions) this.#wake(session);
  };

  /** Ends the workers: no request is read any more. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#stopNow();
    await Promise.all(this.#sessions.map((session) => session.exited));
    process.off("exit", this.#stopNow);
    for (const session of this.#sessions) {
      session.port.close();
      this.#options.systemCalls.close(session.eventfd);
    }
    this.#sessions.length = 0;
    for (const ticket of this.#tickets.values()) ticket.resolve();
    this.#tickets.clear();
  }
}

import { type MessagePort, receiveMessageOnPort } from "node:worker_threads";
import { type DiskRead, MAX_DISK_READS, SPINS_BETWEEN_LOOKS } from "./disk-reads.ts";
import { nodeHigh, Opcode } from "./protocol.ts";
import { Outcome, RequestHandler } from "./request-handler.ts";
import { ServedConnection } from "./served-connection.ts";
import { ServedLayer } from "./served-layer.ts";
import { ControlWord, type FromSession, type SessionStart, type ToSession } from "./session-messages.ts";
import { SessionCounters } from "./session-statistics.ts";
import { Errno, type SystemCalls } from "./system-calls.ts";

/** Requests of one connection that are answered before the others are looked at. */
const MAX_STREAK = 64;

/**
 * The loop of a worker: reads requests of all connections and answers them. After a request it looks for the next
 * one for a moment before it sleeps, because waking a thread costs far more than a request. Never returns to the
 * event loop until it is told to stop: messages are read from the port synchronously.
 */
export class SessionLoop {
  readonly #systemCalls: SystemCalls;
  readonly #port: MessagePort;
  readonly #start: SessionStart;
  readonly #control: Int32Array;
  readonly #counters: SessionCounters;
  readonly #handler: RequestHandler;
  readonly #connections = new Map<number, ServedConnection>();
  readonly #epoll: number;
  readonly #mail: number;
  readonly #requestAddress: number;
  readonly #replyAddress: number;
  /** Reads that the disk is bringing the bytes of, oldest first. */
  readonly #disk: DiskRead[] = [];
  #leading = false;

  constructor(start: SessionStart, port: MessagePort, systemCalls: SystemCalls) {
    this.#start = start;
    this.#port = port;
    this.#systemCalls = systemCalls;
    this.#control = new Int32Array(start.control);
    this.#mail = ControlWord.MAIL + start.worker;
    this.#counters = new SessionCounters(start.statistics, start.worker);
    this.#handler = new RequestHandler(systemCalls, () => this.stopLeading());
    this.#requestAddress = systemCalls.address(this.#handler.request);
    this.#replyAddress = systemCalls.address(this.#handler.reply.bytes);
    this.#epoll = systemCalls.epollCreate();
    systemCalls.epollAdd(this.#epoll, start.eventfd, false);
  }

  /** Serves until the control memory says stop. */
  run(): void {
    const systemCalls = this.#systemCalls;
    const ready: number[] = [];
    let hot: ServedConnection | undefined;
    let streak = 0;
    while (Atomics.load(this.#control, ControlWord.STOP) === 0) {
      const calls = Atomics.load(this.#control, ControlWord.CALLS);
      if (Atomics.load(this.#control, this.#mail) !== 0) this.#readMail();
      if (!this.#leading && !this.#tryToLead()) {
        if (this.#disk.length > 0) this.#waitForDisk();
        else if (Atomics.load(this.#control, ControlWord.STOP) === 0) Atomics.wait(this.#control, ControlWord.CALLS, calls);
        continue;
      }
      const length = hot === undefined ? -1 : this.#readRequest(hot);
      if (hot !== undefined && length > 0) {
        this.#serve(hot, length);
        streak += 1;
        if (this.#disk.length > 0) this.#lookAtDisk();
        if (streak < MAX_STREAK) continue;
      } else if (hot !== undefined && this.#isGone(systemCalls.errno())) {
        this.#disconnect(hot);
        hot = undefined;
      } else if (this.#disk.length > 0) {
        this.#waitForDisk();
        continue;
      }
      const count = systemCalls.epollWait(this.#epoll, ready, streak >= MAX_STREAK ? 0 : -1);
      streak = 0;
      for (let i = 0; i < count; i += 1) {
        const fd = ready[i] ?? -1;
        if (fd === this.#start.eventfd) systemCalls.read(fd, this.#requestAddress, 8);
        else if (count === 1 || fd !== hot?.fd) hot = this.#connections.get(fd);
      }
    }
    while (this.#disk.length > 0) this.#waitForDisk();
    for (const connection of this.#connections.values()) for (const layer of connection.layers.values()) layer.close();
    systemCalls.close(this.#epoll);
  }

  /**
   * As many workers as there are leaders look for requests; the others wait to take the place of one that has to wait for
   * the disk. So nobody waits behind a disk, and no second thread is woken for requests that the first one is about to read.
   */
  #tryToLead(): boolean {
    const leaders = Atomics.load(this.#control, ControlWord.LEADERS);
    if (leaders >= this.#start.leaders) return false;
    this.#leading = Atomics.compareExchange(this.#control, ControlWord.LEADERS, leaders, leaders + 1) === leaders;
    return this.#leading;
  }

  /** Leaves looking for requests to another worker. */
  stopLeading(): void {
    if (!this.#leading) return;
    this.#leading = false;
    Atomics.sub(this.#control, ControlWord.LEADERS, 1);
    Atomics.add(this.#control, ControlWord.CALLS, 1);
    Atomics.notify(this.#control, ControlWord.CALLS, 1);
  }

  /** Reads a request, looking several times when there is a processor to spare. Gives -1 for none. */
  #readRequest(connection: ServedConnection): number {
    const systemCalls = this.#systemCalls;
    const room = this.#handler.request.length;
    let length = systemCalls.read(connection.fd, this.#requestAddress, room);
    if (length > 0 || this.#start.spins === 0) return length;
    if (Atomics.compareExchange(this.#control, ControlWord.SPINNING, 0, 1) !== 0) return length;
    for (let i = 0; i < this.#start.spins && length <= 0; i += 1) {
      if (this.#disk.length > 0 && i % SPINS_BETWEEN_LOOKS === 0) this.#lookAtDisk();
      length = systemCalls.read(connection.fd, this.#requestAddress, room);
    }
    Atomics.store(this.#control, ControlWord.SPINNING, 0);
    return length;
  }

  #isGone(errno: number): boolean {
    return errno !== Errno.EAGAIN && errno !== Errno.EINTR && errno !== Errno.ENOENT && errno !== 0;
  }

  #disconnect(connection: ServedConnection): void {
    this.#systemCalls.epollRemove(this.#epoll, connection.fd);
    this.#connections.delete(connection.fd);
    this.#post({ type: "disconnected", key: connection.key });
  }

  #post(message: FromSession): void {
    this.#port.postMessage(message);
  }

  #serve(connection: ServedConnection, length: number, attempt = 0): void {
    const started = performance.now();
    const outcome = this.#handle(connection, length, this.#start.spins === 0 || this.#disk.length >= MAX_DISK_READS);
    if (outcome === Outcome.DISK) this.#disk.push({ connection, request: this.#handler.request.slice(0, length), started, attempt });
    else this.#finish(connection, outcome, length, attempt, started);
  }

  #handle(connection: ServedConnection, length: number, mayWait: boolean): number {
    try {
      return this.#handler.handle(connection, length, mayWait);
    } catch {
      this.#counters.error();
      return this.#handler.reply.status(Errno.EIO);
    }
  }

  /** Tries the oldest disk read again, without waiting. */
  #lookAtDisk(): void {
    const oldest = this.#disk[0];
    if (oldest !== undefined) this.#handleAgain(oldest, false);
  }

  /** Waits for the oldest disk read. Another worker looks for requests meanwhile. */
  #waitForDisk(): void {
    const oldest = this.#disk[0];
    if (oldest !== undefined) this.#handleAgain(oldest, true);
  }

  #handleAgain({ connection, request, attempt, started }: DiskRead, mayWait: boolean): void {
    this.#handler.request.set(request);
    const outcome = this.#handle(connection, request.length, mayWait);
    if (outcome === Outcome.DISK) return;
    this.#disk.shift();
    this.#finish(connection, outcome, request.length, attempt, started);
  }

  /** Replies, or passes on what this thread does not answer. */
  #finish(connection: ServedConnection, outcome: number, length: number, attempt: number, started: number): void {
    const handler = this.#handler;
    if (outcome > 0) {
      // A write that fails with ENOENT belongs to a request whose caller is gone.
      this.#systemCalls.write(connection.fd, this.#replyAddress, outcome);
    } else {
      this.#pass(connection, outcome, length, attempt);
    }
    if (attempt === 0) this.#counters.count(handler.opcode, performance.now() - started);
  }

  /** Passes on what this thread does not answer. */
  #pass(connection: ServedConnection, outcome: number, length: number, attempt: number): void {
    const handler = this.#handler;
    const { key } = connection;
    switch (outcome) {
      case Outcome.MISS:
        if (attempt === 0) this.#counters.miss();
        Atomics.add(this.#control, ControlWord.OUTSTANDING, 1);
        this.#post({ type: "miss", key, request: { ...handler.miss, attempt } });
        break;
      case Outcome.OPEN:
        this.#post({ type: "open", key, request: handler.miss });
        break;
      case Outcome.RELEASE:
        this.#post({ type: "release", key, request: handler.miss });
        break;
      case Outcome.INTERRUPT:
        if (Atomics.load(this.#control, ControlWord.OUTSTANDING) > 0) this.#post({ type: "interrupt", key, ...handler.interrupted });
        break;
      case Outcome.PARK:
        connection.parked.push(handler.request.slice(0, length));
        break;
      default:
        if (connection.hidden.size > 0 && (handler.opcode === Opcode.FORGET || handler.opcode === Opcode.BATCH_FORGET)) {
          for (const layer of connection.hidden) this.#postLookups(connection, layer);
        }
    }
  }

  #postLookups(connection: ServedConnection, layer: ServedLayer): void {
    this.#post({ type: "forgotten", key: connection.key, worker: this.#start.worker, layer: layer.number, lookups: layer.lookups });
  }

  #readMail(): void {
    Atomics.store(this.#control, this.#mail, 0);
    for (;;) {
      const received = receiveMessageOnPort(this.#port) as { message: ToSession } | undefined;
      if (received === undefined) return;
      this.#receive(received.message);
    }
  }

  #connection(key: string): ServedConnection | undefined {
    for (const connection of this.#connections.values()) if (connection.key === key) return connection;
    return undefined;
  }

  #receive(message: ToSession): void {
    switch (message.type) {
      case "connection": {
        const connection = new ServedConnection(message.connection);
        this.#connections.set(connection.fd, connection);
        this.#systemCalls.epollAdd(this.#epoll, connection.fd, true);
        this.#post({ type: "done", ticket: message.ticket });
        break;
      }
      case "attach": {
        const connection = this.#connection(message.key);
        connection?.add(new ServedLayer(message.layer, this.#systemCalls));
        if (connection !== undefined) this.#replay(connection);
        this.#post({ type: "done", ticket: message.ticket });
        break;
      }
      case "hide": {
        const connection = this.#connection(message.key);
        const layer = connection?.layers.get(nodeHigh(message.layer));
        if (connection !== undefined && layer !== undefined) {
          connection.hide(layer);
          this.#postLookups(connection, layer);
        }
        this.#post({ type: "done", ticket: message.ticket });
        break;
      }
      case "remove": {
        const connection = this.#connection(message.key);
        const layer = connection?.layers.get(nodeHigh(message.layer));
        if (layer !== undefined) connection?.remove(layer);
        break;
      }
      case "ready":
        for (const connection of this.#connections.values()) {
          connection.waiting = false;
          this.#replay(connection);
        }
        this.#post({ type: "done", ticket: message.ticket });
        break;
      case "retry": {
        const connection = this.#connection(message.key);
        if (connection !== undefined) this.#serve(connection, this.#handler.load(message.request), message.request.attempt);
        break;
      }
      default:
        message satisfies never;
    }
  }

  /** Handles again the requests that waited for a layer. */
  #replay(connection: ServedConnection): void {
    const requests = connection.parked;
    connection.parked = [];
    for (const request of requests) {
      this.#handler.request.set(request);
      this.#serve(connection, request.length);
    }
  }
}

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { EstargzError } from "@estargz/interface";
import type { Driver, DriverLayer, DriverStatistics } from "../driver.ts";
import { KeeperClient } from "../keeper/keeper-client.ts";
import { type ConnectionClass, classOf, connectionClasses, exactClassOf } from "./connection-class.ts";
import { type DevFuseDriverOptions, type ResolvedOptions, resolveOptions } from "./dev-fuse-options.ts";
import type { Handshake } from "./handshake.ts";
import { Misses } from "./misses.ts";
import { mountConnection, unmountPath } from "./mount.ts";
import { readMountTable } from "./mount-table.ts";
import { Passthrough } from "./passthrough.ts";
import {
  invalidateEntryNotification,
  invalidateInodeNotification,
  MAX_LAYER_NUMBER,
  nodeHigh,
  OpenFlag,
  OUT_HEADER_BYTES,
  ROOT_NODE_ID,
  resendNotification,
} from "./protocol.ts";
import type { MissRequest } from "./request-handler.ts";
import { type SessionEvent, SessionPool } from "./session-pool.ts";
import { type LatencyHistogram, MISS_KIND, readStatistics, SessionCounters } from "./session-statistics.ts";
import { Errno, loadSystemCalls, type SystemCalls } from "./system-calls.ts";

/** Time that reads in hand get at the end, where the kernel would not send them again. */
const DRAIN_MS = 10_000;

/** Time after which the kernel is asked whether it still knows a layer, in milliseconds: replies of just before are taken in by then. */
const ASK_DELAY_MS = 1000;

/** A driver with more to tell than every driver has. */
export interface DevFuseDriver extends Driver {
  readonly name: "dev-fuse";
  statistics(): DriverStatistics & { readonly latencies: Readonly<Record<string, LatencyHistogram>> };
  /** Mounts of this driver, with what was agreed on with the kernel. */
  readonly connections: readonly { readonly mountPath: string; readonly handshake: Handshake; readonly takenOver: boolean }[];
  /** Process number of the keeper. */
  readonly keeperPid: number | undefined;
}

interface Connection {
  readonly connectionClass: ConnectionClass;
  readonly mountPath: string;
  readonly fd: number;
  readonly handshake: Handshake;
  readonly takenOver: boolean;
  readonly passthrough: Passthrough | undefined;
}

interface Attached {
  readonly layer: DriverLayer;
  /** Where it is shown: the mount whose path is given, and the one that is exact about absent xattrs if that is another. */
  readonly connections: readonly Connection[];
  /** Whether a former process showed it: how much the kernel knows of it is not counted then. */
  readonly restored: boolean;
  /** Whether the kernel is about to be asked. */
  asking: boolean;
  /** After detach: entries that the kernel still knows, by mount and worker. */
  lookups: Map<string, number> | undefined;
}

/** What the keeper is given with a descriptor. */
interface ConnectionNote {
  readonly mountPath: string;
  readonly handshake: Handshake;
}

/**
 * Starts the driver that speaks to /dev/fuse directly. Mounts that a keeper holds for `mountRoot` are taken over, with
 * the requests that were in flight; they wait until their layers are attached again and {@link Driver.ready} is called.
 *
 * @throws `UNSUPPORTED`, `UNAVAILABLE` (no keeper), `INVALID_ARGUMENT`.
 */
export async function createDevFuseDriver(options: DevFuseDriverOptions): Promise<DevFuseDriver> {
  const resolved = resolveOptions(options);
  const systemCalls = loadSystemCalls();
  if (resolved.stateDirectory !== undefined) mkdirSync(resolved.stateDirectory, { recursive: true, mode: 0o700 });
  const keeper = resolved.keeper === undefined ? undefined : await KeeperClient.connect(systemCalls, resolved.keeper, resolved.logger);
  const driver = new DevFuse(resolved, systemCalls, keeper);
  try {
    await driver.takeOver();
  } catch (error) {
    await driver.close();
    throw error;
  }
  return driver;
}

class DevFuse implements DevFuseDriver {
  readonly name = "dev-fuse" as const;
  readonly #options: ResolvedOptions;
  readonly #systemCalls: SystemCalls;
  readonly #keeper: KeeperClient | undefined;
  readonly #pool: SessionPool;
  readonly #misses: Misses;
  readonly #connections = new Map<string, Connection>();
  readonly #mounting = new Map<string, Promise<Connection>>();
  readonly #attached = new Map<number, Attached>();
  #isReady = false;
  #closing: Promise<void> | undefined;

  constructor(options: ResolvedOptions, systemCalls: SystemCalls, keeper: KeeperClient | undefined) {
    this.#options = options;
    this.#systemCalls = systemCalls;
    this.#keeper = keeper;
    this.#misses = new Misses(
      {
        retry: (key, request) => this.#pool.retry(key, request),
        data: (key, request, bytes) => {
          this.#pool.settled();
          this.#reply(key, request, 0, bytes);
          this.#forgetChanging(key, request);
        },
        error: (key, request, errno) => {
          this.#pool.settled();
          this.#reply(key, request, errno);
        },
      },
      (milliseconds) => missCounters.count(MISS_KIND, milliseconds),
    );
    this.#pool = SessionPool.start({
      systemCalls,
      workers: options.workers,
      spares: options.spares,
      spins: options.spins,
      realTime: options.realTime,
      onEvent: (event) => this.#onEvent(event),
      onFailure: options.onFailure,
    });
    // The last place is this thread's.
    const missCounters = new SessionCounters(this.#pool.statistics, options.workers + options.spares);
  }

  get connections(): DevFuseDriver["connections"] {
    return [...this.#connections.values()].map(({ mountPath, handshake, takenOver }) => ({ mountPath, handshake, takenOver }));
  }

  get keeperPid(): number | undefined {
    return this.#keeper?.pid;
  }

  /** Takes the keeper's mounts, and removes what is left of others. */
  async takeOver(): Promise<void> {
    const { mountRoot } = this.#options;
    const mounted = new Set(readMountTable().map((entry) => entry.mountPath));
    for (const { name, note, fd } of this.#keeper?.take() ?? []) {
      const { mountPath, handshake } = note as ConnectionNote;
      const connectionClass = Object.values(connectionClasses).find(({ key }) => join(mountRoot, key) === mountPath);
      if (connectionClass === undefined) {
        this.#systemCalls.close(fd);
      } else if (mounted.has(mountPath)) {
        await this.#serve(connectionClass, mountPath, { fd, handshake }, true);
      } else {
        this.#keeper?.remove(name);
        this.#systemCalls.close(fd);
      }
    }
    const ours = new Set([...this.#connections.values()].map(({ mountPath }) => mountPath));
    for (const { key } of Object.values(connectionClasses)) {
      const mountPath = join(mountRoot, key);
      // Nobody holds such a mount any more: everything in it fails.
      if (!ours.has(mountPath) && mounted.has(mountPath)) await unmountPath(this.#systemCalls, mountPath);
    }
  }

  async #serve(
    connectionClass: ConnectionClass,
    mountPath: string,
    mounted: { readonly fd: number; readonly handshake: Handshake },
    takenOver: boolean,
  ): Promise<Connection> {
    const { fd, handshake } = mounted;
    const { key, xattrs } = connectionClass;
    const { stateDirectory } = this.#options;
    const recordPath = stateDirectory === undefined ? undefined : join(stateDirectory, `open-files-${key}`);
    const passthrough = handshake.passthrough ? new Passthrough(this.#systemCalls, fd, { recordPath, resume: takenOver }) : undefined;
    const connection: Connection = { connectionClass, mountPath, fd, handshake, takenOver, passthrough };
    this.#connections.set(key, connection);
    await this.#pool.tell({ type: "connection", connection: { key, fd, xattrs, handshake, waiting: takenOver && !this.#isReady } });
    if (takenOver && handshake.resend && this.#options.resend) await this.#notify(connection, resendNotification());
    return connection;
  }

  async #notify(connection: Connection, message: Uint8Array): Promise<void> {
    const errno = await this.#systemCalls.writeLater(connection.fd, message);
    if (errno === 0 || errno === Errno.ENOENT) return;
    this.#options.logger.debug({ errno, mountPath: connection.mountPath }, "the kernel refuses a notification");
  }

  #connectionFor(connectionClass: ConnectionClass): Promise<Connection> {
    const { key, passthrough } = connectionClass;
    const known = this.#connections.get(key);
    if (known !== undefined) return Promise.resolve(known);
    const mounting =
      this.#mounting.get(key) ??
      (async () => {
        const { mountRoot, method, allowOther } = this.#options;
        const mountPath = join(mountRoot, key);
        const mounted = await mountConnection(this.#systemCalls, { mountPath, passthrough, method, allowOther });
        this.#keeper?.put(mountPath, mounted.fd, { mountPath, handshake: mounted.handshake } satisfies ConnectionNote);
        return this.#serve(connectionClass, mountPath, mounted, false);
      })().finally(() => this.#mounting.delete(key));
    this.#mounting.set(key, mounting);
    return mounting;
  }

  async attach(layer: DriverLayer): Promise<string> {
    if (this.#closing !== undefined) throw new EstargzError("CLOSED", "the driver is closed");
    const { number, index, store } = layer;
    if (!Number.isInteger(number) || number < 0 || number > MAX_LAYER_NUMBER) {
      throw new EstargzError("INVALID_ARGUMENT", `layer number is ${number}, allowed are 0 to ${MAX_LAYER_NUMBER}`);
    }
    if (this.#attached.has(number)) throw new EstargzError("ALREADY_EXISTS", `layer number ${number} was attached before`);
    const connectionClass = classOf(index, this.#options.passthrough);
    const classes = new Set([connectionClass, exactClassOf(connectionClass)]);
    const connections = await Promise.all([...classes].map((each) => this.#connectionFor(each)));
    // Numbers are never used twice: what is attached later was never shown before.
    const restored = !this.#isReady && connections.some(({ takenOver }) => takenOver);
    this.#attached.set(number, { layer, connections, restored, asking: false, lookups: undefined });
    index.hold();
    const message = { number, index: index.memory, bitmap: store.bitmap, dataPath: store.dataPath };
    await Promise.all(
      connections.map((connection) => this.#pool.tell({ type: "attach", key: connection.connectionClass.key, layer: message })),
    );
    // Waited for: an access that overlaps with it would see the root's attributes of before the first GETATTR.
    const told = connections.map((connection) => this.#notify(connection, invalidateInodeNotification(ROOT_NODE_ID, 0)));
    if (connections.every(({ takenOver }) => !takenOver)) await Promise.all(told);
    return join(this.#options.mountRoot, connectionClass.key, String(number));
  }

  exactPath(number: number): string | undefined {
    const view = this.#attached.get(number)?.connections[1];
    return view === undefined ? undefined : join(view.mountPath, String(number));
  }

  async ready(): Promise<void> {
    this.#isReady = true;
    await this.#pool.tell({ type: "ready" });
  }

  async detach(number: number): Promise<void> {
    const attached = this.#attached.get(number);
    if (attached === undefined || attached.lookups !== undefined) return;
    attached.lookups = new Map();
    for (const connection of attached.connections) {
      await this.#pool.tell({ type: "hide", key: connection.connectionClass.key, layer: number });
      await this.#notify(connection, invalidateEntryNotification(ROOT_NODE_ID, 0, Buffer.from(String(number))));
      await this.#notify(connection, invalidateInodeNotification(ROOT_NODE_ID, 0));
    }
  }

  #onEvent(event: SessionEvent): void {
    switch (event.type) {
      case "miss":
        this.#misses.take(event.key, event.request, this.#attached.get(event.request.layer)?.layer);
        break;
      case "interrupt":
        this.#misses.interrupt(event.key, event.low, event.high);
        break;
      case "open":
        this.#open(event.key, event.request);
        break;
      case "release":
        this.#connections.get(event.key)?.passthrough?.release(event.request);
        this.#reply(event.key, event.request, 0);
        break;
      case "forgotten":
        this.#forgotten(event.key, event.worker, event.layer, event.lookups);
        break;
      case "disconnected":
        this.#options.logger.debug({ connection: event.key }, "a mount has ended");
        break;
      default:
        event satisfies never;
    }
  }

  #open(key: string, request: MissRequest): void {
    const layer = this.#attached.get(request.layer)?.layer;
    let backingId = 0;
    try {
      backingId = this.#connections.get(key)?.passthrough?.open(request, () => layer?.store.backingPath(request.inode)) ?? 0;
    } catch (error) {
      this.#options.logger.error({ err: error }, "the record of open files cannot be written");
      this.#reply(key, request, Errno.EIO);
      return;
    }
    const bytes = new Uint8Array(16);
    const view = new DataView(bytes.buffer);
    view.setUint32(8, backingId === 0 ? OpenFlag.KEEP_CACHE | OpenFlag.NOFLUSH : OpenFlag.PASSTHROUGH | OpenFlag.NOFLUSH, true);
    view.setInt32(12, backingId, true);
    this.#reply(key, request, 0, bytes);
  }

  /** The state file is another one at each read: the kernel is told to forget its pages. */
  #forgetChanging(key: string, request: MissRequest): void {
    const connection = this.#connections.get(key);
    if (connection === undefined || this.#attached.get(request.layer)?.layer.index.stateFile !== request.inode) return;
    void this.#notify(connection, invalidateInodeNotification(request.inode + 1, nodeHigh(request.layer)));
  }

  /** A layer that is not shown any more is let go of when the kernel knows none of its inodes. */
  #forgotten(key: string, worker: number, number: number, lookups: number): void {
    const attached = this.#attached.get(number);
    if (attached?.lookups === undefined) return;
    if (attached.restored) {
      this.#askLater(number, attached);
      return;
    }
    attached.lookups.set(`${key} ${worker}`, lookups);
    const left = [...attached.lookups.values()].reduce((sum, count) => sum + count, 0);
    if (attached.lookups.size < this.#pool.size * attached.connections.length || left > 0) return;
    this.#letGo(number, attached);
  }

  /** Asks the kernel whether it knows a layer's root, which it does as long as it knows anything in it. */
  #askLater(number: number, attached: Attached): void {
    if (attached.asking) return;
    attached.asking = true;
    const ask = async (): Promise<void> => {
      // What is forgotten from here on has to be asked for again.
      attached.asking = false;
      for (const { fd } of attached.connections) {
        if (this.#closing !== undefined) return;
        const errno = await this.#systemCalls.writeLater(fd, invalidateInodeNotification(1, nodeHigh(number)));
        if (errno !== Errno.ENOENT) return;
      }
      if (this.#attached.get(number) === attached) this.#letGo(number, attached);
    };
    setTimeout(() => void ask(), ASK_DELAY_MS).unref();
  }

  #letGo(number: number, attached: Attached): void {
    this.#attached.delete(number);
    for (const { connectionClass, passthrough } of attached.connections) {
      this.#pool.remove(connectionClass.key, number);
      passthrough?.removeLayer(number);
    }
    attached.layer.index.release();
  }

  #reply(key: string, request: MissRequest, errno: number, payload?: Uint8Array): void {
    const connection = this.#connections.get(key);
    if (connection === undefined) return;
    const message = new Uint8Array(Math.max(128, OUT_HEADER_BYTES + (payload?.length ?? 0)));
    const view = new DataView(message.buffer);
    const length = OUT_HEADER_BYTES + (payload?.length ?? 0);
    view.setUint32(0, length, true);
    view.setInt32(4, -errno, true);
    view.setUint32(8, request.uniqueLow, true);
    view.setUint32(12, request.uniqueHigh, true);
    if (payload !== undefined) message.set(payload, OUT_HEADER_BYTES);
    this.#systemCalls.write(connection.fd, this.#systemCalls.address(message), length);
  }

  statistics(): ReturnType<DevFuseDriver["statistics"]> {
    return readStatistics(this.#pool.statistics);
  }

  close(options: { readonly unmount?: boolean | undefined } = {}): Promise<void> {
    const unmount = options.unmount ?? this.#keeper === undefined;
    this.#closing ??= this.#close(unmount);
    return this.#closing;
  }

  async #close(unmount: boolean): Promise<void> {
    await Promise.allSettled(this.#mounting.values());
    if (unmount) {
      for (const { mountPath } of this.#connections.values()) await unmountPath(this.#systemCalls, mountPath);
    }
    await this.#endReads(unmount);
    await this.#pool.close();
    for (const connection of this.#connections.values()) {
      if (unmount) {
        this.#keeper?.remove(connection.mountPath);
        connection.passthrough?.forget();
      }
      // The last descriptor of a connection ends it: who still uses the mount gets ENOTCONN.
      this.#systemCalls.close(connection.fd);
    }
    this.#connections.clear();
    for (const { layer } of this.#attached.values()) layer.index.release();
    this.#attached.clear();
    // Reads that the next process answers are of no interest here any more.
    this.#misses.abort();
    // A keeper without anything to keep would outlive everybody who could end it.
    await this.#keeper?.close({ end: unmount });
  }

  /** Reads in hand go on with the next process if the kernel sends them again; else they are finished here. */
  async #endReads(unmount: boolean): Promise<void> {
    const resends = this.#options.resend && [...this.#connections.values()].every(({ handshake }) => handshake.resend);
    if (!unmount && !resends) {
      const timeout = new Promise<void>((resolve) => setTimeout(resolve, DRAIN_MS).unref());
      await Promise.race([this.#misses.drain(), timeout]);
    }
    if (unmount) this.#misses.abort();
  }
}

import type { Handshake } from "./handshake.ts";
import { nodeHigh } from "./protocol.ts";
import type { ServedLayer } from "./served-layer.ts";

/** A connection as it is handed to a worker. */
export interface ConnectionMessage {
  readonly key: string;
  readonly fd: number;
  /** Whether its layers have extended attributes: GETXATTR is answered, not refused for all times. */
  readonly xattrs: boolean;
  readonly handshake: Handshake;
  /** Whether requests for unknown layers wait: the mount was taken over, and its layers are not attached yet. */
  readonly waiting: boolean;
}

/** A mount in a worker: the layers in it, by the high half of their node numbers. */
export class ServedConnection {
  readonly key: string;
  readonly fd: number;
  readonly xattrs: boolean;
  readonly handshake: Handshake;
  waiting: boolean;
  readonly layers: Map<number, ServedLayer> = new Map<number, ServedLayer>();
  /** Numbers of the layers that are shown, sorted. */
  numbers: readonly number[] = [];
  /** Layers that are not shown any more, but may be in use. */
  readonly hidden: Set<ServedLayer> = new Set<ServedLayer>();
  /** Requests that wait for their layer to be attached. */
  parked: Uint8Array[] = [];

  constructor(message: ConnectionMessage) {
    this.key = message.key;
    this.fd = message.fd;
    this.xattrs = message.xattrs;
    this.handshake = message.handshake;
    this.waiting = message.waiting;
  }

  add(layer: ServedLayer): void {
    this.layers.set(nodeHigh(layer.number), layer);
    this.#list();
  }

  hide(layer: ServedLayer): void {
    layer.shown = false;
    this.hidden.add(layer);
    this.#list();
  }

  remove(layer: ServedLayer): void {
    this.layers.delete(nodeHigh(layer.number));
    this.hidden.delete(layer);
    layer.close();
    this.#list();
  }

  #list(): void {
    const shown = [...this.layers.values()].filter((layer) => layer.shown);
    this.numbers = shown.map((layer) => layer.number).sort((a, b) => a - b);
  }
}

import type { Socket } from "node:net";

const QUANTUM_BYTES = 16 * 1024;
const MAX_WAITING_BYTES = 256 * 1024;

/** One direction of one connection through a link. */
interface Flow {
  readonly to: Socket;
  readonly from: Socket;
  waiting: { readonly bytes: Buffer; readonly atMs: number }[];
  waitingBytes: number;
  paused: boolean;
  /** The sender has finished; the receiver is told once everything has left. */
  ended: boolean;
}

/** One direction of a link: a rate that all connections share fairly, and a delay. */
export class ShaperLink {
  readonly #bytesPerMs: number;
  readonly #delayMs: number;
  readonly #flows: Flow[] = [];
  readonly #inFlight: { readonly atMs: number; readonly flow: Flow; readonly bytes: Buffer | undefined }[] = [];
  #freeAtMs = 0;
  #timer: NodeJS.Timeout | undefined;
  bytes = 0;

  constructor(options: { readonly bitsPerSecond: number; readonly delayMs: number }) {
    this.#bytesPerMs = options.bitsPerSecond / 8000;
    this.#delayMs = options.delayMs;
  }

  /** Carries what `from` sends to `to`, beginning at `openAtMs` on the monotonic clock. */
  connect(from: Socket, to: Socket, openAtMs: number): void {
    const flow: Flow = { from, to, waiting: [], waitingBytes: 0, paused: false, ended: false };
    this.#flows.push(flow);
    // The delay is the link's: waiting for acknowledgements before small pieces leave would add 40 ms now and then.
    to.setNoDelay(true);
    from.on("data", (bytes: Buffer) => {
      const atMs = Math.max(performance.now(), openAtMs);
      for (let at = 0; at < bytes.length; at += QUANTUM_BYTES) flow.waiting.push({ bytes: bytes.subarray(at, at + QUANTUM_BYTES), atMs });
      flow.waitingBytes += bytes.length;
      if (flow.waitingBytes > MAX_WAITING_BYTES && !flow.paused) {
        flow.paused = true;
        from.pause();
      }
      this.#run();
    });
    from.on("end", () => {
      flow.ended = true;
      this.#run();
    });
    const drop = (): void => {
      const at = this.#flows.indexOf(flow);
      if (at >= 0) this.#flows.splice(at, 1);
      flow.waiting = [];
    };
    to.on("close", drop);
  }

  #run(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const now = performance.now();
    this.#send(now);
    this.#deliver(now);
    const next = this.#nextEvent();
    if (next !== undefined) this.#timer = setTimeout(() => this.#run(), Math.max(0, next - performance.now()));
  }

  /** Puts quanta on the wire, one of each flow in turn, as far as the rate allows until now. */
  #send(now: number): void {
    // In virtual time: a timer that comes late makes nothing slower, for each quantum leaves when it could have left.
    for (;;) {
      const flow = this.#flows.find(({ waiting }) => waiting[0] !== undefined && Math.max(waiting[0].atMs, this.#freeAtMs) <= now);
      const quantum = flow?.waiting.shift();
      if (flow === undefined || quantum === undefined) break;
      const { bytes, atMs } = quantum;
      flow.waitingBytes -= bytes.length;
      this.bytes += bytes.length;
      this.#flows.push(...this.#flows.splice(this.#flows.indexOf(flow), 1));
      this.#freeAtMs = Math.max(this.#freeAtMs, atMs) + bytes.length / this.#bytesPerMs;
      this.#inFlight.push({ atMs: this.#freeAtMs + this.#delayMs, flow, bytes });
      if (flow.paused && flow.waitingBytes < MAX_WAITING_BYTES / 2) {
        flow.paused = false;
        flow.from.resume();
      }
    }
    for (let at = this.#flows.length - 1; at >= 0; at--) {
      const flow = this.#flows[at];
      if (flow === undefined || !flow.ended || flow.waiting.length > 0) continue;
      this.#flows.splice(at, 1);
      this.#inFlight.push({ atMs: Math.max(now, this.#freeAtMs) + this.#delayMs, flow, bytes: undefined });
    }
  }

  #deliver(now: number): void {
    let count = 0;
    for (const { atMs, flow, bytes } of this.#inFlight) {
      // Timers have whole milliseconds: half of one early on the way there, half of one late on average.
      if (atMs > now + 0.5) break;
      count += 1;
      if (flow.to.destroyed) continue;
      if (bytes === undefined) flow.to.end();
      else flow.to.write(bytes);
    }
    this.#inFlight.splice(0, count);
  }

  #nextEvent(): number | undefined {
    const times: number[] = [];
    const first = this.#inFlight[0];
    if (first !== undefined) times.push(first.atMs);
    for (const { waiting } of this.#flows) if (waiting[0] !== undefined) times.push(Math.max(waiting[0].atMs, this.#freeAtMs));
    return times.length === 0 ? undefined : Math.min(...times);
  }
}

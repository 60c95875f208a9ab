import { EstargzError } from "@estargz/interface";
import { DirectConnection, type DirectSettings } from "./direct-connection.ts";
import type { Accept, ExchangeRequest, Outcome } from "./exchange.ts";

/** Errors of a kept connection that the server had closed already: the request never reached it. */
const STALE = new Set(["ECONNRESET", "EPIPE"]);
const FORBIDDEN = /[\r\n\0]/;

/** Connections to one server, kept for the next request. How many there are is bounded by who asks. */
export class DirectPool {
  readonly #settings: DirectSettings;
  readonly #all = new Set<DirectConnection>();
  readonly #idle: DirectConnection[] = [];
  #closed = false;

  constructor(settings: DirectSettings) {
    this.#settings = settings;
  }

  #take(): DirectConnection {
    for (let kept = this.#idle.pop(); kept !== undefined; kept = this.#idle.pop()) if (kept.usable) return kept;
    const connection = new DirectConnection(
      this.#settings,
      (idle) => this.#idle.push(idle),
      (gone) => {
        this.#all.delete(gone);
        const at = this.#idle.indexOf(gone);
        if (at >= 0) this.#idle.splice(at, 1);
      },
    );
    this.#all.add(connection);
    return connection;
  }

  /** Whether no connection is open: such a pool costs nothing to make again. */
  get isEmpty(): boolean {
    return this.#all.size === 0;
  }

  /** Sends one GET. One that meets a connection which the server has closed meanwhile is sent again. */
  async exchange<T>(request: ExchangeRequest, accept: Accept<T>): Promise<Outcome<T>> {
    if (this.#closed) throw new EstargzError("CLOSED", "the registry client is closed");
    request.signal?.throwIfAborted();
    for (const [name, value] of Object.entries(request.headers)) {
      if (FORBIDDEN.test(`${name}${String(value)}`))
        throw new EstargzError("INVALID_ARGUMENT", `header field ${JSON.stringify(name)} has a line break`);
    }
    for (;;) {
      const connection = this.#take();
      const { reused } = connection;
      let answered = false;
      try {
        return await connection.start(request, (head, flow) => {
          answered = true;
          return accept(head, flow);
        });
      } catch (error) {
        const code = typeof error === "object" && error !== null && "code" in error ? String(error.code) : "";
        const stale = reused && !answered && connection.silent && STALE.has(code) && !this.#closed && request.signal?.aborted !== true;
        if (!stale) throw error;
      }
    }
  }

  /** Ends every connection; requests in flight fail. */
  close(): void {
    this.#closed = true;
    for (const connection of this.#all) connection.destroy();
  }
}

import type { Readable } from "node:stream";
import { getCACertificates } from "node:tls";
import { type Clock, type Counter, EstargzError, type Histogram, type Logger, type Metrics } from "@estargz/interface";
import { Agent, type Dispatcher, ProxyAgent } from "undici";
import { DirectPool } from "./direct-pool.ts";
import { type Accept, type ExchangeRequest, exchange, headerOf, type Outcome } from "./exchange.ts";
import { Limiter } from "./limiter.ts";
import { type ProxySettings, proxyFor } from "./proxy.ts";
import { guardedLookup } from "./target-policy.ts";

/** How a server is connected to. Two servers with equal settings share one pool of connections. */
export interface ConnectionSettings {
  /** PEM certificates to trust besides the system's. */
  readonly ca?: readonly string[] | undefined;
  /** PEM certificates and keys to show. */
  readonly clientCertificates?: readonly { readonly certificate: string; readonly key: string }[] | undefined;
  /** Accepts any certificate. */
  readonly skipVerify?: boolean | undefined;
  readonly connectTimeoutMs?: number | undefined;
  /** Refuses names that lead to this machine: set for every server that an answer, not the user, named. */
  readonly guarded?: boolean | undefined;
}

/** Deadlines of parts of a request, in milliseconds. */
interface TransportTimeouts {
  readonly connectMs: number;
  readonly headersMs: number;
  readonly idleBodyMs: number;
}

export interface TransportOptions {
  readonly timeouts: TransportTimeouts;
  readonly maxConcurrencyPerHost: number;
  readonly userAgent: string;
  readonly proxy: ProxySettings;
  readonly allowHttp2: boolean;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

/** One request, with what it needs of this process. */
export interface TransportRequest {
  readonly url: URL;
  readonly method: Dispatcher.HttpMethod;
  readonly headers?: Readonly<Record<string, string | string[]>> | undefined;
  readonly body?: Uint8Array | Readable | undefined;
  readonly connection: ConnectionSettings;
  readonly signal: AbortSignal | undefined;
  readonly priority?: number | undefined;
  /** What the request is for, in words that are safe to log. */
  readonly what: string;
  /** A GET whose body goes into memory that is there already: worth a connection that reads straight into it. */
  readonly direct?: boolean | undefined;
}

/** Servers that something is kept of; beyond, those not in use are forgotten. */
const MAX_KEPT_SERVERS = 1000;
const TIMEOUT_CODES = new Set(["UND_ERR_HEADERS_TIMEOUT", "UND_ERR_BODY_TIMEOUT", "UND_ERR_CONNECT_TIMEOUT", "ETIMEDOUT"]);

function connectionError(error: unknown, host: string, what: string): unknown {
  if (error instanceof EstargzError || !(error instanceof Error)) return error;
  const code = "code" in error && typeof error.code === "string" ? error.code : undefined;
  const details = { host, cause: code };
  if (code !== undefined && TIMEOUT_CODES.has(code)) {
    const part = code === "UND_ERR_BODY_TIMEOUT" ? "stopped sending while it answered" : "did not answer in time to";
    return new EstargzError("TIMEOUT", `${host} ${part} ${what}`, { cause: error, details });
  }
  return new EstargzError("REGISTRY_UNAVAILABLE", `${host} could not be reached for ${what}: ${code ?? "the connection failed"}`, {
    cause: error,
    details,
  });
}

/** Connections of one client: pools by settings, a limiter by server. Nothing is shared between two of them. */
export class Transport {
  readonly #options: TransportOptions;
  readonly #dispatchers = new Map<string, Dispatcher>();
  readonly #directPools = new Map<string, DirectPool>();
  readonly #limiters = new Map<string, Limiter>();
  readonly #requests: Counter;
  readonly #bytes: Counter;
  readonly #durations: Histogram;
  /** Servers that have answered in this turn of the event loop. */
  readonly #settling = new Set<string>();
  #closed = false;

  constructor(options: TransportOptions) {
    this.#options = options;
    const { metrics } = options;
    this.#requests = metrics.counter({
      name: "estargz_registry_requests_total",
      help: "Requests to registries, by host and status (0: no answer).",
      labelNames: ["host", "status"],
    });
    this.#bytes = metrics.counter({
      name: "estargz_registry_read_bytes_total",
      help: "Bytes of bodies received from registries.",
      labelNames: ["host"],
    });
    this.#durations = metrics.histogram({
      name: "estargz_registry_request_duration_seconds",
      help: "Time from a request's start to the end of its answer.",
      labelNames: ["host"],
      buckets: [0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
    });
  }

  /** The limiter of a server. */
  limiter(origin: string): Limiter {
    let limiter = this.#limiters.get(origin);
    if (limiter === undefined) {
      if (this.#limiters.size > MAX_KEPT_SERVERS) for (const [key, old] of this.#limiters) if (old.active === 0) this.#limiters.delete(key);
      limiter = new Limiter(this.#options.maxConcurrencyPerHost);
      this.#limiters.set(origin, limiter);
    }
    return limiter;
  }

  /**
   * Sends one request, once, when its server's limiter lets it.
   *
   * @throws `TIMEOUT` and `REGISTRY_UNAVAILABLE` for connections that fail, `CLOSED` after `close`.
   */
  async send<T>(request: TransportRequest, accept: Accept<T>): Promise<Outcome<T>> {
    if (this.#closed) throw new EstargzError("CLOSED", "the registry client is closed");
    const { url, signal, what } = request;
    const { clock, logger, timeouts, userAgent } = this.#options;
    const limiter = this.limiter(url.origin);
    const turn = limiter.acquire(signal, request.priority);
    const ticket = typeof turn === "number" ? turn : await turn;
    // undici takes a connection into use again a turn of the event loop after an answer: asked for at once, it would
    // open a second one, which costs a round trip.
    const pool = request.direct === true ? this.#directPool(url, request.connection) : undefined;
    if (pool === undefined && this.#settling.has(url.origin)) await new Promise<void>((resolve) => setImmediate(resolve));
    const start = clock.now();
    let result: "ok" | "failed" | "overloaded" = "failed";
    let status = 0;
    try {
      const sent: ExchangeRequest = {
        origin: url.origin,
        path: url.pathname + url.search,
        method: request.method,
        headers: { "user-agent": userAgent, "accept-encoding": "identity", ...request.headers },
        body: request.body,
        headersTimeoutMs: timeouts.headersMs,
        bodyTimeoutMs: timeouts.idleBodyMs,
        signal,
      };
      const outcome = await (pool === undefined
        ? exchange(this.#dispatcher(url, request.connection), sent, accept)
        : pool.exchange(sent, accept));
      status = outcome.head.status;
      const overloaded = status === 429 || (status === 503 && outcome.head.headers["retry-after"] !== undefined);
      result = overloaded ? "overloaded" : status < 500 ? "ok" : "failed";
      this.#bytes.add(Number(headerOf(outcome.head, "content-length") ?? 0), { host: url.host });
      return outcome;
    } catch (error) {
      if (signal?.aborted === true && error === signal.reason) throw error;
      if (this.#closed) throw new EstargzError("CLOSED", "the registry client was closed during a request", { cause: error });
      throw connectionError(error, url.host, what);
    } finally {
      if (pool === undefined) this.#settle(url.origin);
      limiter.release(ticket, result);
      const durationMs = clock.now() - start;
      this.#requests.add(1, { host: url.host, status: String(status) });
      this.#durations.observe(durationMs / 1000, { host: url.host });
      logger.debug({ host: url.host, method: request.method, status, durationMs }, what);
    }
  }

  #settle(origin: string): void {
    if (this.#settling.has(origin)) return;
    this.#settling.add(origin);
    setImmediate(() => this.#settling.delete(origin));
  }

  /** The connections for direct reads from a server, if it can be reached that way: plain http, without a proxy. */
  #directPool(url: URL, connection: ConnectionSettings): DirectPool | undefined {
    if (url.protocol !== "http:" || proxyFor(url, this.#options.proxy) !== undefined) return undefined;
    const guarded = connection.guarded === true;
    const connectTimeoutMs = connection.connectTimeoutMs ?? this.#options.timeouts.connectMs;
    const key = `${url.host} ${guarded} ${connectTimeoutMs}`;
    let pool = this.#directPools.get(key);
    if (pool === undefined) {
      if (this.#directPools.size > MAX_KEPT_SERVERS)
        for (const [old, { isEmpty }] of this.#directPools) if (isEmpty) this.#directPools.delete(old);
      const host = url.hostname.startsWith("[") ? url.hostname.slice(1, -1) : url.hostname;
      pool = new DirectPool({ host, port: Number(url.port || 80), connectTimeoutMs, lookup: guarded ? guardedLookup : undefined });
      this.#directPools.set(key, pool);
    }
    return pool;
  }

  #dispatcher(url: URL, connection: ConnectionSettings): Dispatcher {
    const proxy = proxyFor(url, this.#options.proxy);
    const key = connection === DIRECT && proxy === undefined ? "" : JSON.stringify([proxy, connection]);
    let dispatcher = this.#dispatchers.get(key);
    if (dispatcher === undefined) {
      dispatcher = this.#connect(proxy, connection);
      this.#dispatchers.set(key, dispatcher);
    }
    return dispatcher;
  }

  #connect(proxy: string | undefined, connection: ConnectionSettings): Dispatcher {
    const { timeouts, allowHttp2, maxConcurrencyPerHost } = this.#options;
    const { ca, clientCertificates, skipVerify, guarded } = connection;
    const timeout = connection.connectTimeoutMs ?? timeouts.connectMs;
    const tls = {
      ...(ca === undefined || ca.length === 0 ? {} : { ca: [...getCACertificates("default"), ...ca] }),
      ...(clientCertificates === undefined || clientCertificates.length === 0
        ? {}
        : { cert: clientCertificates.map(({ certificate }) => certificate), key: clientCertificates.map(({ key }) => key) }),
      ...(skipVerify === true ? { rejectUnauthorized: false } : {}),
    };
    const pool = {
      connections: maxConcurrencyPerHost,
      pipelining: 1,
      keepAliveTimeout: 30_000,
      maxHeaderSize: 64 * 1024,
      allowH2: allowHttp2,
      h2Options: { connectionWindowSize: 16 * 1024 * 1024, settings: { initialWindowSize: 4 * 1024 * 1024 } },
    };
    if (proxy !== undefined) return new ProxyAgent({ ...pool, uri: proxy, requestTls: tls, connectTimeout: timeout });
    return new Agent({ ...pool, connect: { ...tls, timeout, ...(guarded === true ? { lookup: guardedLookup } : {}) } });
  }

  /** Closes every connection; requests in flight fail. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    const dispatchers = [...this.#dispatchers.values()];
    this.#dispatchers.clear();
    for (const pool of this.#directPools.values()) pool.close();
    await Promise.all(dispatchers.map((dispatcher) => dispatcher.destroy(null)));
  }
}

/** No special settings. */
export const DIRECT: ConnectionSettings = {};

import type { Readable } from "node:stream";
import { type Clock, type ErrorCode, EstargzError, isEstargzError, type Keychain, type Logger } from "@estargz/interface";
import type { Dispatcher } from "undici";
import { Authorizer } from "./auth/authorizer.ts";
import { Deadlines } from "./deadlines.ts";
import { type HostCapability, type HostResolver, type RegistryHost, serverOf } from "./hosts/host.ts";
import { HostHealth } from "./hosts/host-health.ts";
import { type Accept, headerOf, type Outcome } from "./http/exchange.ts";
import { isRetryable, type RetryPolicy, retryDelayMs } from "./http/retry.ts";
import { checkTarget, isLoopbackHost } from "./http/target-policy.ts";
import { type ConnectionSettings, DIRECT, type Transport } from "./http/transport.ts";
import { formatReference, type Reference } from "./reference.ts";
import { answerError, type RegistryError } from "./registry-error.ts";

/** One request to the API of a registry. */
export interface ApiRequest {
  readonly method: Dispatcher.HttpMethod;
  readonly reference: Reference;
  /** Path below the API's root, like `/library/node/manifests/24`, or an absolute URL of the same origin. */
  readonly path: string | URL;
  readonly query?: Readonly<Record<string, string>> | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Made anew for each attempt. */
  readonly body?: (() => Uint8Array | Readable) | undefined;
  readonly actions: "pull" | "pull,push" | "delete" | "pull,push,delete";
  /** Further scopes, for mounts across repositories. */
  readonly extraScopes?: readonly string[] | undefined;
  readonly signal: AbortSignal | undefined;
  readonly priority?: number | undefined;
  readonly what: string;
  /** See {@link TransportRequest.direct}. */
  readonly direct?: boolean | undefined;
  /** Follow redirects. Default true for GET and HEAD. */
  readonly follow?: boolean | undefined;
}

/** An outcome, with where it came from in the end. */
export type ApiOutcome<T> = Outcome<T> & { readonly url: URL; readonly connection: ConnectionSettings };

export interface RegistryApiOptions {
  readonly transport: Transport;
  readonly hosts: HostResolver;
  readonly keychain: Keychain;
  readonly trustedRealms: readonly string[];
  readonly maxRedirects: number;
  readonly retry: RetryPolicy;
  readonly random: () => number;
  readonly clock: Clock;
  readonly logger: Logger;
}

const REDIRECTS = new Set([301, 302, 303, 307, 308]);
const MAX_AUTHORIZATION_ROUNDS = 2;
/** Header fields that may go to another origin. */
const PORTABLE_HEADERS = new Set(["range", "accept"]);

/** Settings of a connection to where a server sent us. */
export function targetConnection(from: URL, to: URL, connection: ConnectionSettings): ConnectionSettings {
  if (from.origin === to.origin) return connection;
  return isLoopbackHost(from.hostname) ? DIRECT : { guarded: true };
}

/** Some stores want to know who sent a client, as browsers and Go's client tell them: the registry's origin. */
export function refererOf(host: RegistryHost): Record<string, string> {
  return { referer: `${host.url.origin}/` };
}

/** Requests to registries: hosts in order, permission, redirects, repetition. */
export class RegistryApi {
  readonly transport: Transport;
  readonly clock: Clock;
  readonly deadlines: Deadlines;
  readonly logger: Logger;
  readonly retry: RetryPolicy;
  readonly random: () => number;
  readonly #options: RegistryApiOptions;
  readonly #authorizer: Authorizer;
  readonly #health: HostHealth;

  constructor(options: RegistryApiOptions) {
    this.#options = options;
    this.transport = options.transport;
    this.clock = options.clock;
    this.deadlines = new Deadlines(options.clock);
    this.logger = options.logger;
    this.retry = options.retry;
    this.random = options.random;
    const { transport, keychain, trustedRealms, clock, logger } = options;
    this.#authorizer = new Authorizer({ transport, keychain, trustedRealms, clock, logger });
    this.#health = new HostHealth(clock);
  }

  /** The servers that can do something for a reference, in the order to try them now. */
  async hosts(reference: Reference, capability: HostCapability): Promise<readonly RegistryHost[]> {
    const all = await this.#options.hosts.hosts(reference.host);
    const able = all.filter(({ capabilities }) => capabilities.has(capability));
    if (able.length === 0) throw new EstargzError("INVALID_CONFIG", `no server is configured that can ${capability} for ${reference.host}`);
    return this.#health.order(able, ({ url }) => url.href);
  }

  /** The error for an outcome that was not accepted. */
  error(outcome: ApiOutcome<unknown>, what: string): RegistryError {
    const { head, url } = outcome;
    const body = outcome.accepted ? undefined : outcome.body;
    return answerError({
      status: head.status,
      host: url.host,
      what,
      body,
      retryAfter: headerOf(head, "retry-after"),
      nowMs: this.clock.now(),
    });
  }

  /**
   * Does one request at one host: gets permission when asked to, follows redirects. Credentials and the host's own
   * header fields stay with the host's origin.
   */
  async request<T>(host: RegistryHost, request: ApiRequest, accept: Accept<T>): Promise<ApiOutcome<T>> {
    const { reference, signal, what } = request;
    const follow = request.follow ?? (request.method === "GET" || request.method === "HEAD");
    const scopes = [`repository:${reference.repository}:${request.actions}`, ...(request.extraScopes ?? [])];
    const permission = {
      registry: host.url,
      connection: host.connection,
      scopes,
      repository: reference.repository,
      reference: formatReference(reference),
      signal,
    };
    let url = this.#url(host, request);
    let connection = host.connection;
    const ownAuthorization = "authorization" in host.headers;
    let authorization = ownAuthorization ? undefined : await this.#authorizer.authorization(permission);
    for (let hop = 0, round = 0; ; ) {
      const own = url.origin === host.url.origin;
      const outcome = await this.transport.send(
        {
          url,
          method: request.method,
          headers: own ? this.#ownHeaders(host, request, authorization) : { ...this.#portableHeaders(request), ...refererOf(host) },
          body: request.body?.(),
          connection,
          signal,
          priority: request.priority,
          what,
          direct: request.direct,
        },
        accept,
      );
      const { status } = outcome.head;
      if (own && status === 401 && !outcome.accepted && round < MAX_AUTHORIZATION_ROUNDS && !ownAuthorization) {
        round += 1;
        const next = await this.#authorizer.challenged(permission, outcome.head.headers["www-authenticate"], authorization);
        if (next !== undefined && next !== authorization) {
          authorization = next;
          continue;
        }
      }
      const location = headerOf(outcome.head, "location");
      if (!follow || outcome.accepted || !REDIRECTS.has(status) || location === undefined) return { ...outcome, url, connection };
      hop += 1;
      if (hop > this.#options.maxRedirects) {
        throw new EstargzError(
          "INVALID_RESPONSE",
          `${host.url.host} sent us through more than ${this.#options.maxRedirects} redirects for ${what}`,
        );
      }
      const target = this.#target(url, location, what);
      connection = target.origin === host.url.origin ? host.connection : targetConnection(url, target, connection);
      url = target;
    }
  }

  #target(from: URL, location: string, what: string): URL {
    let target: URL;
    try {
      target = new URL(location, from);
    } catch (cause) {
      throw new EstargzError("INVALID_RESPONSE", `${from.host} redirected ${what} to something that is not a URL`, { cause });
    }
    target.username = "";
    target.password = "";
    target.hash = "";
    checkTarget(from, target, `for ${what}`);
    return target;
  }

  #ownHeaders(host: RegistryHost, request: ApiRequest, authorization: string | undefined): Record<string, string | string[]> {
    return { ...host.headers, ...request.headers, ...(authorization === undefined ? {} : { authorization }) };
  }

  #portableHeaders(request: ApiRequest): Record<string, string> {
    return Object.fromEntries(Object.entries(request.headers ?? {}).filter(([name]) => PORTABLE_HEADERS.has(name)));
  }

  #url(host: RegistryHost, request: ApiRequest): URL {
    const { reference, path } = request;
    const url = path instanceof URL ? new URL(path) : new URL(`${host.url.pathname}${path}`, host.url);
    if (url.origin !== host.url.origin) {
      throw new EstargzError("INVALID_RESPONSE", `${host.url.host} named a URL of another server for ${request.what}`);
    }
    for (const [name, value] of Object.entries(request.query ?? {})) url.searchParams.set(name, value);
    const server = serverOf(reference.host);
    if (host.url.host !== reference.host && host.url.host !== server) url.searchParams.set("ns", reference.host);
    return url;
  }

  /**
   * Runs `task` at one host after the other until one succeeds, and all of it again, after a wait, while that may help.
   * `progress` counts what was achieved: attempts that achieve something are not counted.
   *
   * @throws the only host's error, or one that lists each host's.
   */
  async acrossHosts<T>(
    reference: Reference,
    capability: HostCapability,
    options: { readonly signal: AbortSignal | undefined; readonly what: string; readonly progress?: () => number },
    task: (host: RegistryHost) => Promise<T>,
  ): Promise<T> {
    const { signal, what, progress } = options;
    for (let attempt = 1; ; attempt++) {
      const before = progress?.() ?? 0;
      const errors: { readonly host: RegistryHost; readonly error: unknown }[] = [];
      for (const host of await this.hosts(reference, capability)) {
        signal?.throwIfAborted();
        try {
          const value = await task(host);
          this.#health.answered(host.url.href);
          return value;
        } catch (error) {
          if (signal?.aborted === true || isEstargzError(error, "CLOSED", "INVALID_ARGUMENT")) throw error;
          if (isEstargzError(error, "REGISTRY_UNAVAILABLE", "TIMEOUT")) this.#health.failed(host.url.href);
          errors.push({ host, error });
        }
      }
      if ((progress?.() ?? 0) > before) attempt = 0;
      const worth = errors.find(({ error }) => isRetryable(error));
      const delayMs = worth === undefined ? undefined : retryDelayMs(Math.max(1, attempt), worth.error, this.retry, this.random);
      if (delayMs === undefined) throw this.#summary(errors, what);
      this.logger.warn(
        { host: worth?.host.url.host, attempt, code: isEstargzError(worth?.error) ? worth.error.code : undefined, delayMs },
        `${what} is repeated`,
      );
      await this.clock.sleep(delayMs, signal);
    }
  }

  #summary(errors: readonly { readonly host: RegistryHost; readonly error: unknown }[], what: string): unknown {
    const last = errors.at(-1)?.error;
    if (errors.length < 2) return last;
    // A server that could not be asked says less than one that answered, but more than "not found" of the others.
    const order: readonly ErrorCode[] = ["RATE_LIMITED", "REGISTRY_UNAVAILABLE", "TIMEOUT"];
    const telling = errors.find(({ error }) => isEstargzError(error, ...order))?.error ?? last;
    const code = isEstargzError(telling) ? telling.code : "REGISTRY_UNAVAILABLE";
    const lines = errors.map(({ host, error }) => `${host.url.host}: ${error instanceof Error ? error.message : String(error)}`);
    return new EstargzError(code, `none of ${errors.length} hosts could do ${what}: ${lines.join("; ")}`, {
      cause: new AggregateError(
        errors.map(({ error }) => error),
        lines.join("\n"),
      ),
    });
  }
}

import { type Clock, type Credentials, EstargzError, isEstargzError, type Keychain, type Logger } from "@estargz/interface";
import { isLoopbackHost } from "../http/target-policy.ts";
import type { ConnectionSettings, Transport } from "../http/transport.ts";
import { SingleFlight } from "../single-flight.ts";
import { type Challenge, parseChallenges } from "./challenge.ts";
import { mayReceiveCredentials, parseRealm } from "./realm-policy.ts";
import { basicAuthorization, fetchToken } from "./token.ts";

/** What a request needs permission for. */
export interface AuthorizationRequest {
  /** URL of the registry, of which only the origin counts. */
  readonly registry: URL;
  readonly connection: ConnectionSettings;
  /** `repository:name:pull` and the like; together they are the key of the token. */
  readonly scopes: readonly string[];
  readonly repository: string | undefined;
  readonly reference: string | undefined;
  readonly signal: AbortSignal | undefined;
}

interface Grant {
  readonly header: string;
  /** When to ask again, before the grant ends. */
  readonly refreshAtMs: number;
  readonly expiresAtMs: number;
}

export interface AuthorizerOptions {
  readonly transport: Transport;
  readonly keychain: Keychain;
  readonly trustedRealms: readonly string[];
  readonly clock: Clock;
  readonly logger: Logger;
}

const MAX_GRANTS = 4096;
/** Life of credentials that do not tell their own. */
const CREDENTIALS_LIFE_MS = 300_000;

/** Removes the oldest entries of a map beyond a number. */
function trim(map: Map<string, unknown>, max: number): void {
  for (const key of map.keys()) {
    if (map.size <= max) return;
    map.delete(key);
  }
}

/**
 * Gets and keeps what goes into Authorization fields. Everything is bound to the origin it was obtained for. What is
 * about to expire is renewed first, by one request for all who wait.
 */
export class Authorizer {
  readonly #options: AuthorizerOptions;
  /** The last usable challenge of each origin: spares the 401 for other repositories there. */
  readonly #challenges = new Map<string, Challenge>();
  readonly #grants = new Map<string, Grant>();
  readonly #flights = new SingleFlight<string, Grant | undefined>();

  constructor(options: AuthorizerOptions) {
    this.#options = options;
  }

  /** The Authorization field to send with a request, if any is known to be needed. */
  async authorization(request: AuthorizationRequest): Promise<string | undefined> {
    const challenge = this.#challenges.get(request.registry.origin);
    if (challenge === undefined) return undefined;
    const now = this.#options.clock.now();
    const grant = this.#grants.get(this.#key(request));
    if (grant !== undefined && now < grant.refreshAtMs) return grant.header;
    try {
      return (await this.#obtain(request, challenge))?.header;
    } catch (error) {
      if (grant !== undefined && now < grant.expiresAtMs && request.signal?.aborted !== true) return grant.header;
      throw error;
    }
  }

  /**
   * Answers a 401: gives the field to try again with, or `undefined` if there is nothing else to try.
   *
   * @param used - The field that was refused.
   * @throws `UNAUTHORIZED` saying why no permission could be obtained.
   */
  async challenged(
    request: AuthorizationRequest,
    values: string | readonly string[] | undefined,
    used: string | undefined,
  ): Promise<string | undefined> {
    const key = this.#key(request);
    const known = this.#grants.get(key);
    // Somebody else renewed it meanwhile.
    if (known !== undefined && known.header !== used && this.#options.clock.now() < known.refreshAtMs) return known.header;
    this.#grants.delete(key);
    const challenges = parseChallenges(values);
    const chosen =
      challenges.find(({ scheme, parameters }) => scheme === "bearer" && parameters.has("realm")) ??
      challenges.find(({ scheme }) => scheme === "basic");
    if (chosen === undefined) return undefined;
    this.#challenges.delete(request.registry.origin);
    this.#challenges.set(request.registry.origin, chosen);
    trim(this.#challenges, MAX_GRANTS);
    const grant = await this.#obtain(request, chosen);
    return grant?.header;
  }

  #key({ registry, scopes }: AuthorizationRequest): string {
    return `${registry.origin} ${scopes.join(" ")}`;
  }

  #obtain(request: AuthorizationRequest, challenge: Challenge): Promise<Grant | undefined> {
    const key = this.#key(request);
    return this.#flights.run(
      key,
      async (signal) => {
        const grant = await (challenge.scheme === "bearer" ? this.#bearer(request, challenge, signal) : this.#basic(request, signal));
        this.#grants.delete(key);
        if (grant !== undefined) this.#grants.set(key, grant);
        trim(this.#grants, MAX_GRANTS);
        return grant;
      },
      request.signal,
    );
  }

  async #credentials(request: AuthorizationRequest, signal: AbortSignal): Promise<Credentials | undefined> {
    const { registry, repository, reference } = request;
    try {
      return await this.#options.keychain.resolve({ origin: registry.origin, repository, reference }, { signal });
    } catch (error) {
      signal.throwIfAborted();
      this.#options.logger.warn({ host: registry.host, code: isEstargzError(error) ? error.code : undefined }, "a keychain failed");
      return undefined;
    }
  }

  async #basic(request: AuthorizationRequest, signal: AbortSignal): Promise<Grant | undefined> {
    const credentials = await this.#credentials(request, signal);
    if (credentials === undefined) return undefined;
    const header =
      credentials.type === "basic" ? basicAuthorization(credentials.username, credentials.password) : `Bearer ${credentials.token}`;
    return this.#grant(header, credentials.expiresAtMs ?? this.#options.clock.now() + CREDENTIALS_LIFE_MS);
  }

  async #bearer(request: AuthorizationRequest, challenge: Challenge, signal: AbortSignal): Promise<Grant | undefined> {
    const { registry, connection } = request;
    const { transport, trustedRealms, clock } = this.#options;
    let credentials = await this.#credentials(request, signal);
    if (credentials?.type === "registry-token") {
      return this.#grant(`Bearer ${credentials.token}`, credentials.expiresAtMs ?? clock.now() + CREDENTIALS_LIFE_MS);
    }
    const realm = parseRealm(registry, challenge.parameters.get("realm") ?? "", trustedRealms);
    const withheld = credentials !== undefined && !(await mayReceiveCredentials(registry, realm, trustedRealms));
    if (withheld) credentials = undefined;
    const scopes = [...new Set([...request.scopes, ...(challenge.parameters.get("scope") ?? "").split(" ")])].filter(
      (scope) => scope !== "",
    );
    const sameHost = realm.hostname === registry.hostname;
    try {
      const token = await fetchToken(transport, {
        realm,
        service: challenge.parameters.get("service"),
        scopes,
        credentials,
        connection: sameHost ? connection : this.#realmConnection(request, realm),
        nowMs: clock.now(),
        signal,
      });
      return this.#grant(`Bearer ${token.value}`, token.expiresAtMs);
    } catch (error) {
      if (!withheld || !isEstargzError(error, "UNAUTHORIZED", "FORBIDDEN")) throw error;
      throw new EstargzError(
        "UNAUTHORIZED",
        `${registry.host} sends its users to ${realm.host} for tokens, which is not trusted with their credentials: add it to trustedRealms if it should be`,
        { cause: error, details: { host: registry.host, realm: realm.host } },
      );
    }
  }

  /** A token service beside its registry is trusted by the same authorities; it never sees a client certificate. */
  #realmConnection({ registry, connection }: AuthorizationRequest, realm: URL): ConnectionSettings {
    const { trustedRealms } = this.#options;
    const guarded = !isLoopbackHost(registry.hostname) && !trustedRealms.includes(realm.host) && !trustedRealms.includes(realm.origin);
    return { ...(connection.ca === undefined ? {} : { ca: connection.ca }), ...(guarded ? { guarded } : {}) };
  }

  #grant(header: string, expiresAtMs: number): Grant {
    const life = expiresAtMs - this.#options.clock.now();
    return { header, expiresAtMs, refreshAtMs: expiresAtMs - Math.min(30_000, life / 5) };
  }
}

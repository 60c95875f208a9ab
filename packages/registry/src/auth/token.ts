import { type Credentials, EstargzError } from "@estargz/interface";
import { z } from "zod";
import { collect, headerOf, type Outcome } from "../http/exchange.ts";
import type { ConnectionSettings, Transport } from "../http/transport.ts";
import { answerError } from "../registry-error.ts";

/** A Bearer token. */
export interface Token {
  readonly value: string;
  readonly expiresAtMs: number;
}

/** What a token is asked for with. */
export interface TokenRequest {
  readonly realm: URL;
  readonly service: string | undefined;
  /** One `type:name:actions` each. */
  readonly scopes: readonly string[];
  readonly credentials: Credentials | undefined;
  readonly connection: ConnectionSettings;
  readonly nowMs: number;
  readonly signal: AbortSignal;
}

const MAX_TOKEN_BYTES = 1024 * 1024;
/** Life of a token that does not tell its own (distribution-spec's token documentation). */
const DEFAULT_LIFE_SECONDS = 60;

const tokenSchema = z.object({
  token: z.string().nullish(),
  access_token: z.string().nullish(),
  expires_in: z.number().nonnegative().nullish(),
});
/** What may stand in a header field. */
const HEADER_VALUE = /^[\x21-\x7e]+$/;

function parseToken(body: Uint8Array, host: string, nowMs: number): Token {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(body).toString("utf8"));
  } catch {
    throw new EstargzError("INVALID_RESPONSE", `the token service ${host} answered with something that is not JSON`);
  }
  const result = tokenSchema.safeParse(value);
  const text = result.data?.token || result.data?.access_token;
  if (!result.success || !text || !HEADER_VALUE.test(text)) {
    throw new EstargzError("INVALID_RESPONSE", `the token service ${host} answered without a usable token`);
  }
  const seconds = result.data.expires_in || DEFAULT_LIFE_SECONDS;
  return { value: text, expiresAtMs: nowMs + Math.min(seconds, 86_400 * 365) * 1000 };
}

/** The Authorization value of user name and password. */
export function basicAuthorization(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`, "utf8").toString("base64")}`;
}

/**
 * Gets a token: with GET and Basic for a user name and password or anonymously, with POST for an identity token.
 * Redirects are not followed: they would carry the credentials elsewhere.
 *
 * @throws `UNAUTHORIZED`, `FORBIDDEN`, `RATE_LIMITED`, `REGISTRY_UNAVAILABLE`, `INVALID_RESPONSE`
 */
export async function fetchToken(transport: Transport, request: TokenRequest): Promise<Token> {
  const { realm, service, scopes, credentials, connection, nowMs, signal } = request;
  const what = "a request for a token";
  const tooLarge = (): Error =>
    new EstargzError("LIMIT_EXCEEDED", `the token service ${realm.host} sent more than ${MAX_TOKEN_BYTES} bytes`);
  let outcome: Outcome<Buffer>;
  if (credentials?.type === "identity-token") {
    const form = new URLSearchParams({ grant_type: "refresh_token", refresh_token: credentials.token, client_id: "estargz" });
    if (service !== undefined) form.set("service", service);
    if (scopes.length > 0) form.set("scope", scopes.join(" "));
    outcome = await transport.send(
      {
        url: realm,
        method: "POST",
        headers: { "content-type": "application/x-www-form-urlencoded" },
        body: Buffer.from(form.toString()),
        connection,
        signal,
        what,
      },
      ({ status }) => (status === 200 ? collect(MAX_TOKEN_BYTES, tooLarge) : undefined),
    );
  } else {
    const url = new URL(realm);
    if (service !== undefined) url.searchParams.set("service", service);
    for (const scope of scopes) url.searchParams.append("scope", scope);
    const headers: Record<string, string> = {};
    if (credentials?.type === "basic") {
      url.searchParams.set("account", credentials.username);
      headers["authorization"] = basicAuthorization(credentials.username, credentials.password);
    }
    outcome = await transport.send({ url, method: "GET", headers, connection, signal, what }, ({ status }) =>
      status === 200 ? collect(MAX_TOKEN_BYTES, tooLarge) : undefined,
    );
  }
  if (outcome.accepted) return parseToken(outcome.value, realm.host, nowMs);
  const { head, body } = outcome;
  throw answerError({ status: head.status, host: realm.host, what, body, retryAfter: headerOf(head, "retry-after"), nowMs });
}

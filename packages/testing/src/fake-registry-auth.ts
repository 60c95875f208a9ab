import { randomUUID } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { Clock } from "@estargz/interface";
import type { RegistryProfile } from "./fake-registry-profiles.ts";

/** Who may do what. */
export interface FakeAccounts {
  /** Passwords by user name. Without any, everybody may do everything. */
  readonly users?: Readonly<Record<string, string>> | undefined;
  /** Refresh tokens that the token service takes. */
  readonly identityTokens?: readonly string[] | undefined;
  /** Reading needs no account. Default: true without accounts. */
  readonly anonymousPull?: boolean | undefined;
}

interface Grant {
  readonly scopes: readonly string[];
  readonly expiresAtMs: number;
}

/** Actions that a request needs. */
export function actionsOf(method: string): string {
  if (method === "GET" || method === "HEAD") return "pull";
  return method === "DELETE" ? "delete" : "push";
}

/** Challenges, tokens and permissions of a fake registry. */
export class FakeAuth {
  readonly #profile: RegistryProfile;
  readonly #accounts: FakeAccounts;
  readonly #clock: Clock;
  readonly #grants = new Map<string, Grant>();

  constructor(profile: RegistryProfile, accounts: FakeAccounts, clock: Clock) {
    this.#profile = profile;
    this.#accounts = accounts;
    this.#clock = clock;
  }

  get #open(): boolean {
    return this.#accounts.users === undefined && this.#accounts.identityTokens === undefined;
  }

  /** Ends every token that was given out. */
  expire(): void {
    this.#grants.clear();
  }

  #userOf(authorization: string | undefined): string | undefined {
    const encoded = /^Basic (.+)$/i.exec(authorization ?? "")?.[1];
    if (encoded === undefined) return undefined;
    const [user = "", ...rest] = Buffer.from(encoded, "base64").toString("utf8").split(":");
    return this.#accounts.users?.[user] === rest.join(":") ? user : undefined;
  }

  /** Whether a request to the API may go on. */
  allows(authorization: string | undefined, repository: string, action: string): boolean {
    const { auth } = this.#profile;
    if (auth === "none") return true;
    if (auth === "basic") return this.#open || this.#userOf(authorization) !== undefined;
    const grant = this.#grants.get(/^Bearer (.+)$/i.exec(authorization ?? "")?.[1] ?? "");
    if (grant === undefined || grant.expiresAtMs <= this.#clock.now()) return false;
    return grant.scopes.some((scope) => {
      const [type, name, actions = ""] = scope.split(":");
      return type === "repository" && name === repository && actions.split(",").includes(action);
    });
  }

  /** The fields of WWW-Authenticate. */
  challenges(realm: string, repository: string, action: string): string[] {
    const scope = `repository:${repository}:${action === "push" ? "pull,push" : action}`;
    const fields = this.#profile.challenge ?? ['Bearer realm="$realm",service="$service",scope="$scope"'];
    return fields.map((field) => field.replaceAll("$realm", realm).replaceAll("$service", "fake.registry").replaceAll("$scope", scope));
  }

  #answer(scopes: readonly string[]): Readonly<Record<string, unknown>> {
    const { tokenField = "both", tokenSeconds = 300 } = this.#profile;
    const token = randomUUID();
    this.#grants.set(token, { scopes, expiresAtMs: this.#clock.now() + (tokenSeconds === 0 ? 60 : tokenSeconds) * 1000 });
    return {
      ...(tokenField === "access_token" ? {} : { token }),
      ...(tokenField === "token" ? {} : { access_token: token }),
      ...(tokenSeconds === 0 ? {} : { expires_in: tokenSeconds }),
    };
  }

  /** The token service: GET with Basic or nothing, POST with a refresh token. */
  token(request: IncomingMessage, url: URL, body: string): { readonly status: number; readonly body: Readonly<Record<string, unknown>> } {
    const refused = { status: 401, body: { errors: [{ code: "UNAUTHORIZED" }] } };
    if (request.method === "POST") {
      const form = new URLSearchParams(body);
      const known = this.#accounts.identityTokens?.includes(form.get("refresh_token") ?? "") === true;
      if (form.get("grant_type") !== "refresh_token" || !known) return refused;
      return { status: 200, body: this.#answer((form.get("scope") ?? "").split(" ")) };
    }
    const scopes = url.searchParams.getAll("scope").flatMap((scope) => scope.split(" "));
    const { authorization } = request.headers;
    if (this.#open || this.#userOf(authorization) !== undefined) return { status: 200, body: this.#answer(scopes) };
    if (authorization !== undefined || this.#accounts.anonymousPull !== true) return refused;
    const readable = scopes.map((scope) => scope.replace(/:[^:]*$/, ":pull"));
    return { status: 200, body: this.#answer(readable) };
  }
}

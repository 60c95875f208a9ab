import type { Credentials, Keychain } from "@estargz/interface";
import { parseHostUrl, serverOf } from "../hosts/host.ts";

/** No credentials for anybody. */
export const anonymousKeychain: Keychain = { resolve: () => Promise.resolve(undefined) };

/** The origin that a host's credentials are for: `docker.io` means Docker Hub's server. */
export function originOf(host: string): string {
  return parseHostUrl(host.includes("://") ? host : serverOf(host), true).origin;
}

/**
 * Credentials by host, like `{ "ghcr.io": { type: "basic", username, password } }`. A host may have a port or a scheme;
 * without one it is https, or http for this machine.
 */
export function staticKeychain(entries: Readonly<Record<string, Credentials>>): Keychain {
  const byOrigin = new Map(Object.entries(entries).map(([host, credentials]) => [originOf(host), credentials]));
  return { resolve: ({ origin }) => Promise.resolve(byOrigin.get(origin)) };
}

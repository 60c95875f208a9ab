import { EstargzError } from "@estargz/interface";
import { isLoopbackHost } from "../http/target-policy.ts";
import { type ConnectionSettings, DIRECT } from "../http/transport.ts";

/** What a host may be used for, in containerd's words. */
export type HostCapability = "pull" | "resolve" | "push";

/** One server that serves the images of a reference's host: a mirror, or the host itself. */
export interface RegistryHost {
  /** Root of its API, with `/v2` or whatever stands for it, without a trailing slash. */
  readonly url: URL;
  readonly capabilities: ReadonlySet<HostCapability>;
  /** Sent to this host only, never to where it redirects. */
  readonly headers: Readonly<Record<string, string | string[]>>;
  readonly connection: ConnectionSettings;
}

/** Finds the servers of a reference's host, in the order to try them. */
export interface HostResolver {
  hosts(host: string): Promise<readonly RegistryHost[]>;
}

export const ALL_CAPABILITIES: ReadonlySet<HostCapability> = new Set(["pull", "resolve", "push"]);

/** The server behind a reference's host where they differ. */
export function serverOf(host: string): string {
  return host === "docker.io" ? "registry-1.docker.io" : host;
}

/** Parses a host's URL; without a scheme it is https, or http for this machine. */
export function parseHostUrl(text: string, overridePath: boolean): URL {
  let url: URL;
  try {
    const withScheme = text.includes("://") ? text : `https://${text}`;
    url = new URL(withScheme);
    if (!text.includes("://") && isLoopbackHost(url.hostname)) url = new URL(`http://${text}`);
  } catch (cause) {
    throw new EstargzError("INVALID_CONFIG", `${JSON.stringify(text)} is not the URL of a host`, { cause });
  }
  if (url.protocol !== "https:" && url.protocol !== "http:") {
    throw new EstargzError("INVALID_CONFIG", `${JSON.stringify(text)} must begin with https:// or http://`);
  }
  if (url.username !== "" || url.password !== "") {
    throw new EstargzError("INVALID_CONFIG", `the URL of host ${url.host} holds credentials: hand them in by a keychain`);
  }
  const path = url.pathname.replace(/\/+$/, "");
  url.pathname = overridePath || path.endsWith("/v2") ? path : `${path}/v2`;
  url.search = "";
  url.hash = "";
  return url;
}

/** Options of {@link directHosts}. */
export interface DirectHostsOptions {
  /** Hosts (with their port) that are spoken to by plain http. This machine always is. */
  readonly plainHttpHosts?: readonly string[] | undefined;
}

/** The server of a reference's host itself. */
export function upstreamHost(host: string, plainHttpHosts: readonly string[] = []): RegistryHost {
  const server = serverOf(host);
  const url = parseHostUrl(plainHttpHosts.includes(host) ? `http://${server}` : server, false);
  return { url, capabilities: ALL_CAPABILITIES, headers: {}, connection: DIRECT };
}

/** Every host is its own only server. */
export function directHosts(options: DirectHostsOptions = {}): HostResolver {
  return { hosts: (host) => Promise.resolve([upstreamHost(host, options.plainHttpHosts)]) };
}

/** A mirror of {@link mirrorHosts}. */
export interface Mirror {
  /** URL, or host and port. */
  readonly url: string;
  /** Default: pull and resolve. */
  readonly capabilities?: readonly HostCapability[] | undefined;
  readonly headers?: Readonly<Record<string, string | string[]>> | undefined;
  readonly connection?: ConnectionSettings | undefined;
  /** The URL's path is the API's root as it is; `/v2` is not added. Default false. */
  readonly overridePath?: boolean | undefined;
}

/** Mirrors by reference host, tried in order before the host itself. */
export function mirrorHosts(mirrors: Readonly<Record<string, readonly Mirror[]>>, options: DirectHostsOptions = {}): HostResolver {
  const parsed = new Map(
    Object.entries(mirrors).map(([host, list]) => [
      host,
      list.map(
        (mirror): RegistryHost => ({
          url: parseHostUrl(mirror.url, mirror.overridePath === true),
          capabilities: new Set(mirror.capabilities ?? ["pull", "resolve"]),
          headers: mirror.headers ?? {},
          connection: mirror.connection ?? DIRECT,
        }),
      ),
    ]),
  );
  return { hosts: (host) => Promise.resolve([...(parsed.get(host) ?? []), upstreamHost(host, options.plainHttpHosts)]) };
}

import type { HostResolver, Mirror } from "@estargz/registry";
import { hostsDirectory, mirrorHosts } from "@estargz/registry";
import type { ConfiguredMirror, SnapshotterConfig } from "./config-types.ts";

function mirrorOf(mirror: ConfiguredMirror): Mirror {
  const url = mirror.host.includes("://") ? mirror.host : `${mirror.insecure ? "http" : "https"}://${mirror.host}`;
  return { url, headers: mirror.header };
}

/**
 * The servers of each host: mirrors written in the configuration, for the hosts that have some there; `hosts.toml` files for
 * all others.
 */
export function configuredHosts(config: SnapshotterConfig): HostResolver {
  const plainHttpHosts = config.resolver.plain_http;
  const named = Object.entries(config.resolver.host).filter(([, { mirrors }]) => mirrors.length > 0);
  const mirrors = mirrorHosts(Object.fromEntries(named.map(([host, { mirrors: list }]) => [host, list.map(mirrorOf)])), { plainHttpHosts });
  const directory = hostsDirectory(config.resolver.config_path, { plainHttpHosts });
  const names = new Set(named.map(([host]) => host));
  return { hosts: (host) => (names.has(host) ? mirrors : directory).hosts(host) };
}

import { BlockList, isIP } from "node:net";

/** Proxies, in the words of the usual environment variables. */
export interface ProxySettings {
  /** Proxy of https URLs, like `http://user:password@proxy:3128`. */
  readonly https?: string | undefined;
  /** Proxy of http URLs. */
  readonly http?: string | undefined;
  /** Hosts reached directly: names (with their subdomains), addresses, CIDR blocks, each with an optional port; `*` for all. */
  readonly none?: string | undefined;
}

/** Reads `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY` and their lower-case forms, which win. */
export function proxyFromEnvironment(env: Readonly<Record<string, string | undefined>> = process.env): ProxySettings {
  const read = (name: string): string | undefined => env[name.toLowerCase()] || env[name] || undefined;
  return { https: read("HTTPS_PROXY") ?? read("ALL_PROXY"), http: read("HTTP_PROXY") ?? read("ALL_PROXY"), none: read("NO_PROXY") };
}

const DEFAULT_PORTS: Readonly<Record<string, string>> = { "https:": "443", "http:": "80" };

function unbracket(hostname: string): string {
  return hostname.startsWith("[") ? hostname.slice(1, -1) : hostname;
}

/** Says whether one item of a NO_PROXY list means this host. */
function matches(item: string, host: string, port: string): boolean {
  if (item === "*") return true;
  if (item.includes("/")) return inBlock(item, host);
  const colon = /^(.*):(\d{1,5})$/.exec(item);
  const [name, onlyPort] = colon !== null && isIP(item) === 0 ? [colon[1] ?? "", colon[2]] : [item, undefined];
  if (onlyPort !== undefined && onlyPort !== port) return false;
  const bare = unbracket(name)
    .replace(/^\*?\./, "")
    .toLowerCase();
  return bare !== "" && (host === bare || (isIP(host) === 0 && host.endsWith(`.${bare}`)));
}

function inBlock(item: string, host: string): boolean {
  const [network = "", bits] = item.split("/");
  const family = isIP(host);
  if (family === 0 || isIP(network) !== family) return false;
  const list = new BlockList();
  try {
    list.addSubnet(network, Number(bits), family === 6 ? "ipv6" : "ipv4");
  } catch {
    return false;
  }
  return list.check(host, family === 6 ? "ipv6" : "ipv4");
}

/** The proxy to reach `url` by; `undefined` to reach it directly. Loopback is always reached directly. */
export function proxyFor(url: URL, settings: ProxySettings): string | undefined {
  const proxy = url.protocol === "https:" ? settings.https : settings.http;
  if (proxy === undefined) return undefined;
  const host = unbracket(url.hostname).toLowerCase();
  if (host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."))) return undefined;
  const port = url.port || (DEFAULT_PORTS[url.protocol] ?? "");
  const direct = (settings.none ?? "").split(/[\s,]+/).some((item) => item !== "" && matches(item, host, port));
  if (direct) return undefined;
  return proxy.includes("://") ? proxy : `http://${proxy}`;
}

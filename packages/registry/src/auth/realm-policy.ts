import { EstargzError } from "@estargz/interface";
import { checkTarget } from "../http/target-policy.ts";

/** Domains that hand out subdomains to anybody and are not in the public suffix list: neighbours there are strangers. */
const SHARED_DOMAINS = [
  "azurecr.io",
  "amazonaws.com",
  "amazonaws.com.cn",
  "pkg.dev",
  "googleapis.com",
  "windows.net",
  "cloudfront.net",
  "jfrog.io",
];

/** Registries and the host of their token service, where the domains differ. */
const KNOWN_REALMS: Readonly<Record<string, readonly string[]>> = {
  "registry-1.docker.io": ["auth.docker.io"],
  "index.docker.io": ["auth.docker.io"],
  "docker.io": ["auth.docker.io"],
};

async function registrableDomain(hostname: string): Promise<string | undefined> {
  const shared = SHARED_DOMAINS.find((domain) => hostname.endsWith(`.${domain}`));
  // Below a shared domain only equal names are one owner's.
  if (shared !== undefined) return hostname;
  // The list is large: loaded when it is needed.
  const { getDomain } = await import("tldts");
  return getDomain(hostname, { allowPrivateDomains: true }) ?? undefined;
}

/**
 * Says whether a registry's credentials may go to its token service: the same origin; a known pair; https in the same
 * registrable domain (public suffix list, private section included); or a host that the user listed.
 * Anything else gets an anonymous request at most.
 */
export async function mayReceiveCredentials(registry: URL, realm: URL, trustedRealms: readonly string[]): Promise<boolean> {
  if (registry.origin === realm.origin) return true;
  if (registry.protocol === "https:" && realm.protocol !== "https:") return false;
  if (trustedRealms.includes(realm.host) || trustedRealms.includes(realm.origin)) return true;
  if (realm.protocol !== "https:") return false;
  if (KNOWN_REALMS[registry.hostname]?.includes(realm.host) === true) return true;
  if (realm.port !== "") return false;
  const domain = await registrableDomain(realm.hostname);
  return domain !== undefined && domain === (await registrableDomain(registry.hostname));
}

/** Parses and checks a realm. @throws `INVALID_RESPONSE` for a URL that must not be asked at all. */
export function parseRealm(registry: URL, realm: string, trustedRealms: readonly string[]): URL {
  let url: URL;
  try {
    url = new URL(realm, registry);
  } catch (cause) {
    throw new EstargzError("INVALID_RESPONSE", `${registry.host} names a token service that is not a URL`, { cause });
  }
  url.username = "";
  url.password = "";
  if (!trustedRealms.includes(url.host) && !trustedRealms.includes(url.origin)) checkTarget(registry, url, "to a token service");
  return url;
}

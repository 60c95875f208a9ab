import { lookup } from "node:dns";
import { BlockList, isIP, type LookupFunction } from "node:net";
import { EstargzError } from "@estargz/interface";

const loopback = new BlockList();
loopback.addSubnet("127.0.0.0", 8, "ipv4");
loopback.addSubnet("0.0.0.0", 8, "ipv4");
loopback.addAddress("::1", "ipv6");
loopback.addAddress("::", "ipv6");
const linkLocal = new BlockList();
linkLocal.addSubnet("169.254.0.0", 16, "ipv4");
linkLocal.addSubnet("fe80::", 10, "ipv6");
// Metadata services of clouds on IPv6.
linkLocal.addAddress("fd00:ec2::254", "ipv6");

function addressOf(hostname: string): string {
  return hostname.startsWith("[") ? hostname.slice(1, -1) : hostname;
}

function listed(list: BlockList, address: string): boolean {
  const family = isIP(address);
  return family !== 0 && list.check(address, family === 6 ? "ipv6" : "ipv4");
}

/** Says whether a URL's host is this machine, by name or address. */
export function isLoopbackHost(hostname: string): boolean {
  const address = addressOf(hostname.toLowerCase());
  return address === "localhost" || address.endsWith(".localhost") || listed(loopback, address);
}

function isLinkLocal(hostname: string): boolean {
  return listed(linkLocal, addressOf(hostname));
}

/**
 * Checks where an answer sends us (a redirect, a token realm, an alternative URL): no other scheme than http(s), never
 * from https to http, never from elsewhere to this machine or to link-local addresses, where metadata services are.
 *
 * @throws `INVALID_RESPONSE`
 */
export function checkTarget(from: URL, to: URL, what: string): void {
  const refuse = (why: string): never => {
    throw new EstargzError("INVALID_RESPONSE", `${from.host} sent us ${what} at ${to.host}: ${why}`, {
      details: { from: from.host, to: to.host },
    });
  };
  if (to.protocol !== "https:" && to.protocol !== "http:") refuse(`${to.protocol} is not http or https`);
  if (from.protocol === "https:" && to.protocol === "http:") refuse("from https to http is refused");
  if (isLoopbackHost(to.hostname) && !isLoopbackHost(from.hostname)) refuse("it is this machine");
  if (isLinkLocal(to.hostname) && !isLinkLocal(from.hostname)) refuse("link-local addresses are refused");
}

/** Resolves names, and refuses those that lead to this machine or to link-local addresses. */
export const guardedLookup: LookupFunction = (hostname, options, callback) => {
  lookup(hostname, { ...options, all: true }, (error, addresses) => {
    if (error !== null) {
      callback(error, "", 0);
      return;
    }
    const allowed = addresses.filter(({ address }) => !listed(loopback, address) && !listed(linkLocal, address));
    const first = allowed[0];
    if (first === undefined) {
      callback(Object.assign(new Error("the name leads to this machine or a link-local address"), { code: "EACCES" }), "", 0);
    } else if (options.all === true) callback(null, allowed);
    else callback(null, first.address, first.family);
  });
};

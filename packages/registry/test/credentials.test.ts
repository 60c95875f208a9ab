import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import type { Credentials, LogFields, Logger } from "@estargz/interface";
import type { FakeRegistry } from "@estargz/testing";
import { expect, test } from "vitest";
import { mayReceiveCredentials, parseRealm } from "../src/auth/realm-policy.ts";
import { checkTarget } from "../src/http/target-policy.ts";
import { mirrorHosts, staticKeychain } from "../src/index.ts";
import { codeOf, fakeRegistry, later, pattern, testClient, tlsHosts } from "./harness.ts";

const SECRET = "hunter2-geheim";
const USERS = { me: SECRET };
const basic: Credentials = { type: "basic", username: "me", password: SECRET };
const blob = pattern(20_000, "credentials");
const ENCODED = Buffer.from(`me:${SECRET}`).toString("base64");

/** A server that is not the registry's, and all that it was told. */
async function stranger(
  answer: (request: IncomingMessage) => { status: number; headers?: Record<string, string> } = () => ({ status: 404 }),
) {
  const seen: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    seen.push(request);
    const { status, headers = {} } = answer(request);
    response.writeHead(status, headers).end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  later(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { address, seen };
}

function expectNoSecrets(
  requests: readonly { readonly headers: IncomingMessage["headers"]; readonly path?: string; readonly url?: string | undefined }[],
): void {
  for (const { headers, path, url } of requests) {
    expect(headers.authorization).toBeUndefined();
    expect(headers.cookie).toBeUndefined();
    expect(JSON.stringify([headers, path, url])).not.toContain(SECRET);
    expect(JSON.stringify([headers, path, url])).not.toContain(ENCODED);
  }
}

/** A client with credentials for one registry, whose log is kept. */
function clientFor(registry: FakeRegistry, options: Parameters<typeof testClient>[0] = {}) {
  const lines: string[] = [];
  const write = (fields: LogFields, message: string): void => void lines.push(JSON.stringify([fields, message]));
  const logger: Logger = { debug: write, info: write, warn: write, error: write };
  const client = testClient({ keychain: staticKeychain({ [registry.address]: basic }), logger, ...options });
  const descriptor = registry.content.putBlob("a/b", blob);
  const reader = client.openBlob({ reference: `${registry.address}/a/b`, descriptor });
  return { client, reader, lines, descriptor };
}

test("a redirect to another origin gets neither credentials nor the host's own header fields", async () => {
  const registry = await fakeRegistry({ profile: "ecr", users: USERS });
  const other = await stranger(() => ({ status: 404 }));
  const hosts = mirrorHosts({ [registry.address]: [{ url: registry.origin, headers: { "x-secret": SECRET } }] });
  const { reader } = clientFor(registry, { hosts });
  await reader.readAt(0, 10);
  const stored = registry.requests.filter(({ server }) => server === "store");
  expect(stored.length).toBeGreaterThan(0);
  expectNoSecrets(stored);
  expect(registry.requests[0]?.headers["x-secret"]).toBe(SECRET);
  registry.expire("redirects");
  registry.inject({ server: "api", method: "GET", redirectTo: `http://${other.address}/elsewhere`, times: Number.POSITIVE_INFINITY });
  expect(await codeOf(reader.readAt(500, 10))).toBe("NOT_FOUND");
  expect(other.seen.length).toBeGreaterThan(0);
  expectNoSecrets(other.seen);
});

test("a redirect target that asks for credentials (CVE-2020-15157) gets none", async () => {
  const registry = await fakeRegistry({ profile: "ecr", users: USERS });
  const other = await stranger(() => ({ status: 401, headers: { "www-authenticate": 'Basic realm="give"' } }));
  const { reader } = clientFor(registry);
  registry.inject({ server: "api", method: "GET", skip: 1, redirectTo: `http://${other.address}/`, times: Number.POSITIVE_INFINITY });
  expect(await codeOf(reader.readAt(0, 10))).toBe("UNAUTHORIZED");
  expectNoSecrets(other.seen);
});

test("a redirect from https to http is refused", async () => {
  const registry = await fakeRegistry({ profile: "distribution", users: USERS, tls: true });
  const other = await stranger(() => ({ status: 200 }));
  const { reader } = clientFor(registry, { hosts: tlsHosts() });
  registry.inject({ server: "api", method: "GET", redirectTo: `http://${other.address}/`, times: Number.POSITIVE_INFINITY });
  expect(await codeOf(reader.readAt(0, 10))).toBe("INVALID_RESPONSE");
  expect(other.seen).toHaveLength(0);
});

test("a token service on a foreign host is asked anonymously, and the error says what to do", async () => {
  const other = await stranger(() => ({ status: 401 }));
  const registry = await fakeRegistry({ profile: "harbor", users: USERS, realm: `http://${other.address}/token` });
  const { reader } = clientFor(registry);
  await expect(reader.readAt(0, 10)).rejects.toMatchObject({ code: "UNAUTHORIZED", message: expect.stringContaining("trustedRealms") });
  expect(other.seen.length).toBeGreaterThan(0);
  expectNoSecrets(other.seen);
});

test("a token service that the user trusts gets them", async () => {
  const registry = await fakeRegistry({ profile: "docker-hub", users: USERS });
  const { reader } = clientFor(registry, { trustedRealms: [registry.tokenAddress] });
  expect(await reader.readAt(0, 10)).toHaveLength(10);
  const [asked] = registry.requests.filter(({ server }) => server === "token");
  expect(asked?.headers.authorization).toBe(`Basic ${ENCODED}`);
});

test("a token service's redirect is not followed", async () => {
  const registry = await fakeRegistry({ profile: "harbor", users: USERS });
  const other = await stranger();
  registry.inject({ server: "token", path: /token/, redirectTo: `http://${other.address}/`, times: Number.POSITIVE_INFINITY });
  const { reader } = clientFor(registry);
  expect(await codeOf(reader.readAt(0, 10))).toBe("INVALID_RESPONSE");
  expect(other.seen).toHaveLength(0);
});

test("alternative URLs of a manifest are asked without credentials", async () => {
  const registry = await fakeRegistry({ profile: "zot", users: USERS });
  const other = await stranger(() => ({ status: 401, headers: { "www-authenticate": 'Basic realm="give"' } }));
  const { client, descriptor } = clientFor(registry);
  const missing = {
    ...descriptor,
    digest: `sha256:${"0".repeat(64)}` as typeof descriptor.digest,
    urls: [`http://me:${SECRET}@${other.address}/layer`],
  };
  expect(await codeOf(client.openBlob({ reference: `${registry.address}/a/b`, descriptor: missing }).readAt(0, 10))).toBe("NOT_FOUND");
  expect(other.seen).toHaveLength(1);
  expectNoSecrets(other.seen);
});

test("a mirror does not get the credentials of the host that it mirrors", async () => {
  const registry = await fakeRegistry({ profile: "zot", users: USERS });
  const mirror = await stranger(() => ({ status: 401, headers: { "www-authenticate": 'Basic realm="give"' } }));
  const { reader } = clientFor(registry, { hosts: mirrorHosts({ [registry.address]: [{ url: `http://${mirror.address}` }] }) });
  expect(await reader.readAt(0, 10)).toHaveLength(10);
  expect(mirror.seen.length).toBeGreaterThan(0);
  expect(mirror.seen[0]?.url).toContain(`ns=${encodeURIComponent(registry.address)}`);
  expectNoSecrets(mirror.seen);
});

test("neither log lines nor errors hold secrets, tokens or signed URLs", async () => {
  const registry = await fakeRegistry({ profile: "docker-hub", users: USERS });
  const { reader, client, lines } = clientFor(registry, {
    trustedRealms: [registry.tokenAddress],
    retry: { maxAttempts: 2, minDelayMs: 1 },
  });
  await reader.readAt(0, 10);
  const texts = [...lines];
  for (const fault of [{ status: 500 }, { status: 403 }, { resetAfterBytes: 0 }, { shiftContentRange: 1 }, { status: 429 }]) {
    registry.inject({ ...fault, times: 8 });
    texts.push(await reader.readAt(0, 10).then(String, show));
    registry.clear();
  }
  registry.inject({ server: "token", path: /token/, status: 500, times: 5 });
  registry.expire("tokens");
  texts.push(await client.resolve(`${registry.address}/x/y`).then(String, show));
  texts.push(...lines);
  const all = texts.join("\n");
  const tokens = registry.requests.map(({ headers }) => headers.authorization?.replace(/^\w+ /, "") ?? "").filter((token) => token !== "");
  for (const secret of [SECRET, ENCODED, "X-Amz-Signature", ...tokens]) expect(all).not.toContain(secret);
  expect(lines.length).toBeGreaterThan(5);
});

function show(error: unknown): string {
  const seen: string[] = [];
  for (let at = error; at instanceof Error; at = at.cause) {
    seen.push(`${at.message} ${at.stack} ${JSON.stringify(at)} ${JSON.stringify("details" in at ? at.details : null)}`);
  }
  return seen.join("\n");
}

test("credentials in a reference or a host's URL are refused", async () => {
  const client = testClient();
  expect(() => client.repository(`me:${SECRET}@registry.example/a/b`)).toThrow(expect.objectContaining({ code: "INVALID_REFERENCE" }));
  expect(() => mirrorHosts({ x: [{ url: `https://me:${SECRET}@mirror.example` }] })).toThrow(expect.not.stringContaining(SECRET));
});

test.each([
  ["https://registry-1.docker.io", "https://auth.docker.io/token", true],
  ["https://registry.gitlab.com", "https://gitlab.com/jwt/auth", true],
  ["https://ghcr.io", "https://ghcr.io/token", true],
  ["https://registry.corp.example.co.uk", "https://auth.corp.example.co.uk/t", true],
  ["https://registry.corp.example.co.uk", "https://auth.other.co.uk/t", false],
  ["https://ghcr.io", "https://evil.example/token", false],
  ["https://ghcr.io", "https://ghcr.io.evil.example/token", false],
  ["https://ghcr.io", "http://ghcr.io/token", false],
  ["https://me.azurecr.io", "https://me.azurecr.io/oauth2/token", true],
  ["https://me.azurecr.io", "https://you.azurecr.io/oauth2/token", false],
  ["https://1.dkr.ecr.us-east-1.amazonaws.com", "https://2.dkr.ecr.us-east-1.amazonaws.com/", false],
  ["https://me.github.io", "https://you.github.io/", false],
  ["https://registry.example.com", "https://auth.example.com:8443/", false],
  ["http://10.0.0.1:5000", "http://10.0.0.2:5000/", false],
  ["http://127.0.0.1:5000", "http://127.0.0.1:5001/token", false],
  ["https://192.168.0.1", "https://192.168.0.2/", false],
] as const)("credentials of %s to %s: %s", async (registry, realm, allowed) => {
  expect(await mayReceiveCredentials(new URL(registry), new URL(realm), [])).toBe(allowed);
});

test("a trusted realm is trusted by host, but never by http for a registry that speaks https", async () => {
  const registry = new URL("https://registry.example");
  expect(await mayReceiveCredentials(registry, new URL("https://tokens.other/t"), ["tokens.other"])).toBe(true);
  expect(await mayReceiveCredentials(registry, new URL("http://tokens.other/t"), ["tokens.other"])).toBe(false);
});

test.each([
  ["https://registry.example", "http://store.example/x"],
  ["https://registry.example", "https://127.0.0.1/x"],
  ["https://registry.example", "https://localhost/x"],
  ["https://registry.example", "https://[::1]/x"],
  ["https://registry.example", "https://2130706433/x"],
  ["https://registry.example", "https://[::ffff:127.0.0.1]/x"],
  ["http://registry.example", "http://169.254.169.254/latest/meta-data"],
  ["http://127.0.0.1:5000", "http://169.254.169.254/latest/meta-data"],
  ["https://registry.example", "ftp://store.example/x"],
])("a registry at %s may not send us to %s", (from, to) => {
  expect(() => checkTarget(new URL(from), new URL(to), "here")).toThrow(expect.objectContaining({ code: "INVALID_RESPONSE" }));
});

test("a realm's own credentials are dropped, and a malformed one is an error", () => {
  expect(parseRealm(new URL("https://r.example"), `https://a:${SECRET}@r.example/t`, []).href).toBe("https://r.example/t");
  expect(() => parseRealm(new URL("https://r.example"), "https://[", [])).toThrow(expect.objectContaining({ code: "INVALID_RESPONSE" }));
});

test("tokens are shared by layers and fetched once, renewed before their end, and kept when renewal fails", async () => {
  let now = 1_000_000;
  const clock = { now: () => now, sleep: () => new Promise<void>(() => {}) };
  const registry = await fakeRegistry({ profile: "docker-hub", users: USERS, clock });
  const { client, descriptor } = clientFor(registry, { trustedRealms: [registry.tokenAddress], clock });
  const read = () => client.openBlob({ reference: `${registry.address}/a/b`, descriptor }).readAt(0, 10);
  const tokens = () => registry.requests.filter(({ server }) => server === "token").length;
  await Promise.all([read(), read(), read(), read()]);
  expect(tokens()).toBe(1);
  now += 280_000;
  registry.expire("redirects");
  await read();
  expect(tokens()).toBe(2);
  now += 280_000;
  registry.expire("redirects");
  registry.inject({ server: "token", path: /token/, status: 500, times: Number.POSITIVE_INFINITY });
  await read();
  expect(tokens()).toBe(3);
});

test("identity tokens are exchanged by POST, registry tokens sent as they are", async () => {
  const registry = await fakeRegistry({ profile: "harbor", identityTokens: ["refresh-me"] });
  const descriptor = registry.content.putBlob("a/b", blob);
  const open = (credentials: Credentials) =>
    testClient({ keychain: staticKeychain({ [registry.address]: credentials }) }).openBlob({
      reference: `${registry.address}/a/b`,
      descriptor,
    });
  expect(await open({ type: "identity-token", token: "refresh-me" }).readAt(0, 10)).toHaveLength(10);
  expect(registry.requests.find(({ server }) => server === "token")?.method).toBe("POST");
  const token = registry.requests.at(-1)?.headers.authorization?.replace("Bearer ", "") ?? "";
  registry.clear();
  expect(await open({ type: "registry-token", token }).readAt(0, 10)).toHaveLength(10);
  expect(registry.requests.filter(({ server }) => server === "token")).toHaveLength(0);
  expect(await codeOf(open({ type: "identity-token", token: "wrong" }).readAt(0, 10))).toBe("UNAUTHORIZED");
});

test("credentials that are refused are asked for again, so that a rotation shows", async () => {
  const registry = await fakeRegistry({ profile: "zot", users: USERS });
  const descriptor = registry.content.putBlob("a/b", blob);
  let password = "old";
  const keychain = { resolve: () => Promise.resolve({ type: "basic" as const, username: "me", password }) };
  const reader = testClient({ keychain }).openBlob({ reference: `${registry.address}/a/b`, descriptor });
  expect(await codeOf(reader.readAt(0, 10))).toBe("UNAUTHORIZED");
  password = SECRET;
  expect(await reader.readAt(0, 10)).toHaveLength(10);
});

test("anonymous reading works where it is allowed, and a failing keychain does not stop it", async () => {
  const registry = await fakeRegistry({ profile: "harbor", users: USERS, anonymousPull: true });
  const descriptor = registry.content.putBlob("a/b", blob);
  const keychain = { resolve: () => Promise.reject(new Error("broken")) };
  for (const client of [testClient(), testClient({ keychain })]) {
    expect(await client.openBlob({ reference: `${registry.address}/a/b`, descriptor }).readAt(0, 10)).toHaveLength(10);
  }
});

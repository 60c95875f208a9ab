import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type FakeRegistry, testCertificate } from "@estargz/testing";
import { describe, expect, test } from "vitest";
import { HostHealth } from "../src/hosts/host-health.ts";
import { proxyFor, proxyFromEnvironment } from "../src/http/proxy.ts";
import { directHosts, hostsDirectory, mirrorHosts } from "../src/index.ts";
import { codeOf, fakeRegistry, later, pattern, testClient, tlsHosts, until } from "./harness.ts";

const blob = pattern(50_000, "hosts");

async function tree(files: Readonly<Record<string, string>>): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), "estargz-hosts-"));
  later(() => rm(root, { recursive: true, force: true }));
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), text);
  }
  return root;
}

describe("hosts.toml", () => {
  test("every field", async () => {
    const root = await tree({
      "docker.io/hosts.toml": `
server = "https://registry-1.docker.io"
[host."https://mirror.example:5443/cache/v2"]
  capabilities = ["pull"]
  override_path = true
  skip_verify = true
  dial_timeout = "1m1.5s"
  ca = ["ca.pem"]
  client = [["client.pem", "client.key"]]
  [host."https://mirror.example:5443/cache/v2".header]
    X-One = "1"
    X-Two = ["2", "3"]
[host."http://plain.example"]
[host."localhost:5000"]
  capabilities = ["pull", "resolve", "push"]
`,
      "docker.io/ca.pem": "CA",
      "docker.io/client.pem": "CERTIFICATE",
      "docker.io/client.key": "KEY",
    });
    const [mirror, plain, local, upstream, ...rest] = await hostsDirectory(root).hosts("docker.io");
    expect(rest).toHaveLength(0);
    expect(mirror?.url.href).toBe("https://mirror.example:5443/cache/v2");
    expect([...(mirror?.capabilities ?? [])]).toEqual(["pull"]);
    expect(mirror?.headers).toEqual({ "x-one": "1", "x-two": ["2", "3"] });
    expect(mirror?.connection).toEqual({
      ca: ["CA"],
      clientCertificates: [{ certificate: "CERTIFICATE", key: "KEY" }],
      skipVerify: true,
      connectTimeoutMs: 61_500,
    });
    expect([plain?.url.href, plain?.capabilities.size]).toEqual(["http://plain.example/v2", 3]);
    expect(local?.url.href).toBe("http://localhost:5000/v2");
    expect(upstream?.url.href).toBe("https://registry-1.docker.io/v2");
  });

  test.each([
    ["registry.example_5000_/hosts.toml", "registry.example:5000"],
    ["registry.example:5000/hosts.toml", "registry.example:5000"],
    ["_default/hosts.toml", "registry.example:5000"],
  ])("%s is read for %s", async (path, host) => {
    const root = await tree({ [path]: '[host."https://mirror.example"]' });
    expect((await hostsDirectory(root).hosts(host)).map(({ url }) => url.host)).toEqual(["mirror.example", "registry.example:5000"]);
  });

  test("several directories are looked through in order; none means the host itself", async () => {
    const one = await tree({});
    const two = await tree({ "a.example/hosts.toml": 'server = "https://other.example"' });
    const hosts = hostsDirectory(`${one}:${two}`);
    expect((await hosts.hosts("a.example")).map(({ url }) => url.href)).toEqual(["https://other.example/v2"]);
    expect((await hosts.hosts("b.example")).map(({ url }) => url.href)).toEqual(["https://b.example/v2"]);
  });

  test("Docker's certificate files work without a hosts.toml", async () => {
    const root = await tree({ "a.example/ca.crt": "CA", "a.example/client.cert": "CERTIFICATE", "a.example/client.key": "KEY" });
    const [host] = await hostsDirectory(root).hosts("a.example");
    expect(host?.connection).toEqual({ ca: ["CA"], clientCertificates: [{ certificate: "CERTIFICATE", key: "KEY" }] });
  });

  test.each([
    ["server = [", "not TOML"],
    ['[host."https://a"]\ncapabilities = ["fly"]', "capabilities"],
    ['[host."https://a"]\nca = "missing.pem"', "missing.pem"],
    ['[host."https://a"]\ndial_timeout = "soon"', "dial_timeout"],
    ['[host."ftp://a"]', "https:// or http://"],
  ])("%s is an error that says where", async (text, where) => {
    const root = await tree({ "a.example/hosts.toml": text });
    await expect(hostsDirectory(root).hosts("a.example")).rejects.toMatchObject({
      code: "INVALID_CONFIG",
      message: expect.stringContaining(where),
    });
  });

  test("a change is seen without a restart", async () => {
    let now = 0;
    const root = await tree({ "a.example/hosts.toml": '[host."https://one.example"]' });
    const hosts = hostsDirectory(root, { clock: { now: () => now, sleep: () => Promise.resolve() } });
    await hosts.hosts("a.example");
    await writeFile(join(root, "a.example/hosts.toml"), '[host."https://two.example"]');
    now += 6000;
    expect((await hosts.hosts("a.example"))[0]?.url.host).toBe("two.example");
  });
});

describe("mirrors", () => {
  async function scene(): Promise<{ mirror: FakeRegistry; upstream: FakeRegistry; read: () => Promise<Uint8Array>; now: { ms: number } }> {
    const mirror = await fakeRegistry();
    const upstream = await fakeRegistry();
    const descriptor = upstream.content.putBlob("a/b", blob);
    mirror.content.putBlob("a/b", blob);
    const now = { ms: 0 };
    const clock = {
      now: () => now.ms,
      sleep: (_ms: number, signal?: AbortSignal) =>
        new Promise<void>((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason))),
    };
    const client = testClient({ hosts: mirrorHosts({ [upstream.address]: [{ url: mirror.origin }] }), clock });
    const read = () => client.openBlob({ reference: `${upstream.address}/a/b`, descriptor }).readAt(10, 20);
    return { mirror, upstream, read, now };
  }

  test("are asked first, with the host that they stand for", async () => {
    const { mirror, upstream, read } = await scene();
    expect(await read()).toHaveLength(20);
    expect(mirror.requests[0]?.path).toContain(`?ns=${encodeURIComponent(upstream.address)}`);
    expect(upstream.requests).toHaveLength(0);
  });
  test("that lack a blob are passed over", async () => {
    const { mirror, upstream, read } = await scene();
    mirror.inject({ status: 404 });
    expect(await read()).toHaveLength(20);
    expect(upstream.requests[0]?.path).not.toContain("ns=");
  });
  test("that are down cost one attempt, not one each, until they have rested", async () => {
    const { mirror, upstream, read, now } = await scene();
    mirror.inject({ resetAfterBytes: 0, times: 1 });
    for (let count = 0; count < 5; count++) await read();
    expect([mirror.requests.length, upstream.requests.length]).toEqual([1, 5]);
    now.ms += 11_000;
    await read();
    expect(mirror.requests).toHaveLength(2);
  });
  test("cut in the middle are continued at the next host, from where they were cut", async () => {
    const { mirror, upstream, read: _ } = await scene();
    const client = testClient({ hosts: mirrorHosts({ [upstream.address]: [{ url: mirror.origin }] }) });
    const descriptor = upstream.content.putBlob("a/b", blob);
    mirror.inject({ resetAfterBytes: 20_000 });
    const bytes = await client.openBlob({ reference: `${upstream.address}/a/b`, descriptor }).readAt(0, 50_000);
    expect(Buffer.compare(bytes, blob)).toBe(0);
    expect(upstream.requests[0]?.headers.range).not.toBe("bytes=0-49999");
  });
  test("with other content are not believed", async () => {
    const { mirror, upstream, read } = await scene();
    mirror.inject({ swapBlob: pattern(60_000), times: 5 });
    expect(Buffer.compare(await read(), blob.subarray(10, 30))).toBe(0);
    expect(upstream.requests).toHaveLength(1);
  });
  test("and the host all failing is one error that names each", async () => {
    const { mirror, upstream, read } = await scene();
    for (const registry of [mirror, upstream]) registry.inject({ status: 404, times: 9 });
    await expect(read()).rejects.toMatchObject({
      code: "NOT_FOUND",
      message: expect.stringMatching(new RegExp(`${mirror.address}.*${upstream.address}`)),
    });
  });
  test("without the capability are not asked", async () => {
    const mirror = await fakeRegistry();
    const upstream = await fakeRegistry();
    upstream.content.putImage("a/b", "v1", { layers: [{ bytes: blob }] });
    const client = testClient({ hosts: mirrorHosts({ [upstream.address]: [{ url: mirror.origin, capabilities: ["pull"] }] }) });
    await client.resolve(`${upstream.address}/a/b:v1`, { platform: { os: "linux", architecture: "amd64" } });
    expect(mirror.requests).toHaveLength(0);
  });
  test("a path of their own is kept", () => {
    const [mirror] = [mirrorHosts({ "docker.io": [{ url: "https://m.example/v2/hub", overridePath: true }] })];
    return expect(mirror?.hosts("docker.io").then(([first]) => first?.url.href)).resolves.toBe("https://m.example/v2/hub");
  });
  test("rest longer each time they fail", () => {
    let now = 0;
    const health = new HostHealth({ now: () => now, sleep: () => Promise.resolve() });
    const rests: number[] = [];
    for (let count = 0; count < 7; count++) {
      health.failed("a");
      const start = now;
      while (health.isResting("a")) now += 1000;
      rests.push((now - start) / 1000);
    }
    expect(rests).toEqual([10, 20, 40, 80, 160, 300, 300]);
    health.answered("a");
    expect(health.isResting("a")).toBe(false);
  });
});

test("hosts are https, this machine http, Docker Hub's server another, plain http where asked", async () => {
  const url = async (host: string, plainHttpHosts?: string[]) => (await directHosts({ plainHttpHosts }).hosts(host))[0]?.url.href;
  expect(await url("ghcr.io")).toBe("https://ghcr.io/v2");
  expect(await url("docker.io")).toBe("https://registry-1.docker.io/v2");
  expect(await url("localhost:5000")).toBe("http://localhost:5000/v2");
  expect(await url("127.0.0.1:5000")).toBe("http://127.0.0.1:5000/v2");
  expect(await url("[::1]:5000")).toBe("http://[::1]:5000/v2");
  expect(await url("registry.lan:5000", ["registry.lan:5000"])).toBe("http://registry.lan:5000/v2");
});

describe("TLS", () => {
  test("HTTP/2 is used where it is offered, over one connection, and can be turned off", async () => {
    const registry = await fakeRegistry({ tls: true });
    const descriptor = registry.content.putBlob("a/b", blob);
    const reference = `${registry.address}/a/b`;
    const client = testClient({ hosts: tlsHosts() });
    const offsets = [0, 5000, 10_000, 15_000, 20_000];
    const read = (one: typeof client) => Promise.all(offsets.map((offset) => one.openBlob({ reference, descriptor }).readAt(offset, 100)));
    for (const [index, bytes] of (await read(client)).entries()) {
      expect(Buffer.compare(bytes, blob.subarray(offsets[index], (offsets[index] as number) + 100))).toBe(0);
    }
    expect(new Set(registry.requests.map(({ httpVersion }) => httpVersion))).toEqual(new Set(["2.0"]));
    expect(registry.openSockets).toBe(1);
    registry.clear();
    await read(testClient({ hosts: tlsHosts(), allowHttp2: false }));
    expect(new Set(registry.requests.map(({ httpVersion }) => httpVersion))).toEqual(new Set(["1.1"]));
  });
  test("cuts and resets of HTTP/2 streams are resumed, big bodies arrive whole", async () => {
    const big = pattern(6_000_000, "h2");
    const registry = await fakeRegistry({ tls: true });
    const descriptor = registry.content.putBlob("a/b", big);
    registry.inject({ resetAfterBytes: 100_000 });
    registry.inject({ status: 503 });
    const bytes = await testClient({ hosts: tlsHosts() })
      .openBlob({ reference: `${registry.address}/a/b`, descriptor })
      .readAt(0, big.length);
    expect(Buffer.compare(bytes, big)).toBe(0);
  });
  test("an unknown certificate is refused at once, unless verification is turned off", async () => {
    const registry = await fakeRegistry({ tls: true });
    const descriptor = registry.content.putBlob("a/b", blob);
    const location = { reference: `${registry.address}/a/b`, descriptor };
    const https = { hosts: async (host: string) => [{ ...(await tlsHosts().hosts(host))[0]!, connection: {} }] };
    expect(await codeOf(testClient({ hosts: https }).openBlob(location).readAt(0, 1))).toBe("REGISTRY_UNAVAILABLE");
    expect(registry.requests).toHaveLength(0);
    const loose = { hosts: async (host: string) => [{ ...(await tlsHosts().hosts(host))[0]!, connection: { skipVerify: true } }] };
    expect(await testClient({ hosts: loose }).openBlob(location).readAt(0, 1)).toHaveLength(1);
    expect(testCertificate.certificate).toContain("BEGIN CERTIFICATE");
  });
});

describe("proxies", () => {
  const settings = {
    https: "http://proxy:3128",
    http: "proxy2:8080",
    none: "internal.example, .corp.example,10.0.0.0/8 ,[fd00::]/8,direct.example:8443,192.168.1.5",
  };
  test.each([
    ["https://registry.example", "http://proxy:3128"],
    ["http://registry.example", "http://proxy2:8080"],
    ["https://internal.example", undefined],
    ["https://sub.internal.example", undefined],
    ["https://notinternal.example", "http://proxy:3128"],
    ["https://a.corp.example", undefined],
    ["https://10.1.2.3", undefined],
    ["https://11.1.2.3", "http://proxy:3128"],
    ["https://192.168.1.5:5000", undefined],
    ["https://direct.example:8443", undefined],
    ["https://direct.example", "http://proxy:3128"],
    ["http://localhost:5000", undefined],
    ["http://127.0.0.1:5000", undefined],
  ])("%s by %s", (url, proxy) => {
    expect(proxyFor(new URL(url), settings)).toBe(proxy);
  });
  test("the environment's lower-case variables win, and a star means none", () => {
    expect(proxyFromEnvironment({ HTTPS_PROXY: "http://a", https_proxy: "http://b", NO_PROXY: "*" })).toEqual({
      https: "http://b",
      http: undefined,
      none: "*",
    });
    expect(proxyFor(new URL("https://x.example"), { https: "http://a", none: "*" })).toBeUndefined();
  });
  test("requests go through a proxy by CONNECT, which sees no credentials of the registry", async () => {
    const registry = await fakeRegistry({ tls: true });
    const descriptor = registry.content.putBlob("a/b", blob);
    const asked: IncomingMessage[] = [];
    const proxy = createServer();
    proxy.on("connect", (request: IncomingMessage, socket) => {
      asked.push(request);
      const target = connect(Number(registry.address.split(":")[1]), "127.0.0.1", () => {
        socket.write("HTTP/1.1 200 OK\r\n\r\n");
        target.pipe(socket).pipe(target);
      });
      for (const end of [socket, target]) end.on("error", () => {});
      socket.on("close", () => target.destroy());
    });
    await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
    later(async () => {
      proxy.closeAllConnections();
      await new Promise((resolve) => proxy.close(resolve));
    });
    const { port } = proxy.address() as AddressInfo;
    const host = `registry.test:${registry.address.split(":")[1]}`;
    const client = testClient({ hosts: tlsHosts(), proxy: { https: `http://127.0.0.1:${port}` } });
    expect(await client.openBlob({ reference: `${host}/a/b`, descriptor }).readAt(0, 10)).toHaveLength(10);
    expect(asked[0]?.url).toBe(host);
    expect(asked[0]?.headers.authorization).toBeUndefined();
    await client.close();
    await until(() => registry.openSockets === 0);
  });
});

import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { keychainSuite } from "@estargz/testing/suites";
import { describe, expect, test } from "vitest";
import {
  chainKeychain,
  dockerConfigKeychain,
  environmentKeychain,
  kubernetesFileKeychain,
  kubernetesKeychain,
  podmanKeychain,
  staticKeychain,
} from "../src/index.ts";
import { codeOf, later } from "./harness.ts";

const HOST = "registry.example:5443";
const origin = `https://${HOST}`;
const credentials = { type: "basic", username: "me", password: "se:cret" } as const;
const auth = Buffer.from("me:se:cret").toString("base64");
const config = JSON.stringify({ auths: { [HOST]: { auth } } });

async function folder(): Promise<{ path: string; close: () => Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), "estargz-keychain-"));
  return { path, close: () => rm(path, { recursive: true, force: true }) };
}

/** A credential helper that answers as `script` says. */
async function helper(path: string, name: string, script: string): Promise<void> {
  const file = join(path, `docker-credential-${name}`);
  await writeFile(file, `#!/bin/sh\nread server\n${script}\n`);
  await chmod(file, 0o755);
}

async function kubernetes(
  objects: Readonly<Record<string, unknown>>,
): Promise<{ url: string; close: () => Promise<void>; asked: string[]; directory: string }> {
  const { path: directory, close } = await folder();
  await writeFile(join(directory, "token"), "account-token\n");
  await writeFile(join(directory, "namespace"), "team");
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(request.url ?? "");
    const found = request.headers.authorization === "Bearer account-token" ? objects[request.url ?? ""] : undefined;
    response.writeHead(found === undefined ? 404 : 200).end(JSON.stringify(found ?? {}));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const stop = async (): Promise<void> => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await close();
  };
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, close: stop, asked, directory };
}

const secret = (text: string, key = ".dockerconfigjson") => ({ data: { [key]: Buffer.from(text).toString("base64") } });

keychainSuite("staticKeychain", { setup: async () => ({ keychain: staticKeychain({ [HOST]: credentials }), origin, credentials }) });
keychainSuite("chainKeychain", {
  setup: async () => {
    const broken = { resolve: () => Promise.reject(new Error("broken")) };
    return { keychain: chainKeychain([broken, staticKeychain({}), staticKeychain({ [HOST]: credentials })]), origin, credentials };
  },
});
keychainSuite("dockerConfigKeychain", {
  setup: async () => {
    const { path, close } = await folder();
    await writeFile(join(path, "config.json"), config);
    return { keychain: dockerConfigKeychain({ env: { DOCKER_CONFIG: path } }), origin, credentials, close };
  },
});
keychainSuite("dockerConfigKeychain with a helper", {
  setup: async () => {
    const { path, close } = await folder();
    await writeFile(join(path, "config.json"), JSON.stringify({ credHelpers: { [HOST]: "test" } }));
    await helper(path, "test", `echo '{"Username":"me","Secret":"se:cret"}'`);
    return { keychain: dockerConfigKeychain({ env: { DOCKER_CONFIG: path, PATH: `${path}:/bin:/usr/bin` } }), origin, credentials, close };
  },
});
keychainSuite("podmanKeychain", {
  setup: async () => {
    const { path, close } = await folder();
    await writeFile(join(path, "auth.json"), config);
    return { keychain: podmanKeychain({ env: { REGISTRY_AUTH_FILE: join(path, "auth.json") } }), origin, credentials, close };
  },
});
keychainSuite("environmentKeychain", {
  setup: async () => ({
    keychain: environmentKeychain({ ESTARGZ_REGISTRY: HOST, ESTARGZ_USERNAME: "me", ESTARGZ_PASSWORD: "se:cret" }),
    origin,
    credentials,
  }),
});
keychainSuite("environmentKeychain with DOCKER_AUTH_CONFIG", {
  setup: async () => ({ keychain: environmentKeychain({ DOCKER_AUTH_CONFIG: config }), origin, credentials }),
});
keychainSuite("kubernetesFileKeychain", {
  setup: async () => {
    const { path, close } = await folder();
    await writeFile(join(path, ".dockerconfigjson"), config);
    return { keychain: kubernetesFileKeychain([path]), origin, credentials, close };
  },
});
keychainSuite("kubernetesKeychain", {
  setup: async () => {
    const { url, close, directory } = await kubernetes({
      "/api/v1/namespaces/team/serviceaccounts/default": { imagePullSecrets: [{ name: "gone" }, { name: "pull" }] },
      "/api/v1/namespaces/team/secrets/pull": secret(config),
    });
    return { keychain: kubernetesKeychain({ apiServer: url, accountDirectory: directory }), origin, credentials, close };
  },
});

describe("Docker's configuration", () => {
  async function ask(content: unknown, wanted: Parameters<ReturnType<typeof dockerConfigKeychain>["resolve"]>[0]) {
    const { path, close } = await folder();
    later(close);
    await writeFile(join(path, "config.json"), typeof content === "string" ? content : JSON.stringify(content));
    return dockerConfigKeychain({ path: join(path, "config.json"), env: { PATH: `${path}:/bin:/usr/bin` } }).resolve(wanted);
  }

  test.each(["https://index.docker.io/v1/", "index.docker.io", "docker.io"])("Docker Hub's key %s is for its server", async (key) => {
    expect(await ask({ auths: { [key]: { auth } } }, { origin: "https://registry-1.docker.io" })).toMatchObject(credentials);
  });
  test("keys may be URLs, and the longest path wins", async () => {
    const auths = { "https://registry.example/v2/": { auth }, "registry.example/team": { username: "team", password: "x" } };
    expect(await ask({ auths }, { origin: "https://registry.example" })).toMatchObject({ username: "me" });
    expect(await ask({ auths }, { origin: "https://registry.example", repository: "team/app" })).toMatchObject({ username: "team" });
    expect(await ask({ auths }, { origin: "https://registry.example", repository: "teams/app" })).toMatchObject({ username: "me" });
  });
  test("a star stands for one label of a host", async () => {
    const auths = { "*.example": { auth } };
    expect(await ask({ auths }, { origin: "https://a.example" })).toMatchObject(credentials);
    expect(await ask({ auths }, { origin: "https://a.b.example" })).toBeUndefined();
  });
  test("identity and registry tokens", async () => {
    expect(await ask({ auths: { a: { identitytoken: "t" } } }, { origin: "https://a" })).toEqual({ type: "identity-token", token: "t" });
    expect(await ask({ auths: { a: { registrytoken: "t" } } }, { origin: "https://a" })).toEqual({ type: "registry-token", token: "t" });
  });
  test("no file means no credentials; an unreadable one is an error that does not quote it", async () => {
    expect(await dockerConfigKeychain({ path: "/nonexistent/config.json" }).resolve({ origin })).toBeUndefined();
    const broken = ask('{"auths":{"a":{"auth":"c2VjcmV0"', { origin });
    await expect(broken).rejects.toMatchObject({ code: "INVALID_CONFIG", message: expect.not.stringContaining("c2VjcmV0") });
  });
  test("a change shows at the next question", async () => {
    const { path, close } = await folder();
    later(close);
    const file = join(path, "config.json");
    const keychain = dockerConfigKeychain({ path: file });
    expect(await keychain.resolve({ origin })).toBeUndefined();
    await writeFile(file, config);
    expect(await keychain.resolve({ origin })).toMatchObject(credentials);
  });
});

describe("credential helpers", () => {
  async function withHelper(script: string, content: object = { credsStore: "test" }, helperTimeoutMs = 60_000) {
    const { path, close } = await folder();
    later(close);
    await writeFile(join(path, "config.json"), JSON.stringify(content));
    await helper(path, "test", script);
    return dockerConfigKeychain({ env: { DOCKER_CONFIG: path, PATH: `${path}:/bin:/usr/bin` }, helperTimeoutMs });
  }

  test("the store gets the host, or Docker Hub's old URL, on its standard input", async () => {
    const keychain = await withHelper(`printf '{"Username":"%s","Secret":"s"}' "$server"`);
    expect(await keychain.resolve({ origin: "https://a.example" })).toMatchObject({ username: "a.example" });
    expect(await keychain.resolve({ origin: "https://registry-1.docker.io" })).toMatchObject({ username: "https://index.docker.io/v1/" });
  });
  test("<token> as the user means an identity token", async () => {
    const keychain = await withHelper(`echo '{"Username":"<token>","Secret":"t"}'`);
    expect(await keychain.resolve({ origin })).toEqual({ type: "identity-token", token: "t" });
  });
  test("'not found' is no error, and auths are looked at", async () => {
    const keychain = await withHelper("echo credentials not found in native keychain; exit 1", {
      credsStore: "test",
      auths: { [HOST]: { auth } },
    });
    expect(await keychain.resolve({ origin })).toMatchObject(credentials);
  });
  test("a helper that fails, talks nonsense, is missing or hangs is a typed error", async () => {
    expect(await codeOf((await withHelper("exit 3")).resolve({ origin }))).toBe("UNAVAILABLE");
    expect(await codeOf((await withHelper("echo hello")).resolve({ origin }))).toBe("INVALID_RESPONSE");
    expect(await codeOf((await withHelper("echo '{}'")).resolve({ origin }))).toBe("INVALID_RESPONSE");
    expect(await codeOf((await withHelper("exit 0", { credsStore: "missing" })).resolve({ origin }))).toBe("UNAVAILABLE");
    expect(await codeOf((await withHelper("exit 0", { credsStore: "../evil" })).resolve({ origin }))).toBe("INVALID_CONFIG");
    expect(await codeOf((await withHelper("exec sleep 600", undefined, 200)).resolve({ origin }))).toBe("TIMEOUT");
  });
  test("a caller's abort ends the helper, with the caller's reason", async () => {
    const keychain = await withHelper("exec sleep 600");
    const controller = new AbortController();
    const reason = new Error("left");
    const answer = keychain.resolve({ origin }, { signal: controller.signal });
    controller.abort(reason);
    await expect(answer).rejects.toBe(reason);
  });
});

describe("Kubernetes", () => {
  test("only the namespace's own secrets are asked for; the named ones in their order", async () => {
    const { url, close, asked, directory } = await kubernetes({
      "/api/v1/namespaces/team/secrets/broken": secret("{"),
      "/api/v1/namespaces/team/secrets/old": secret(JSON.stringify({ [HOST]: { auth } }), ".dockercfg"),
    });
    later(close);
    const keychain = kubernetesKeychain({ apiServer: url, accountDirectory: directory, secrets: ["broken", "old"] });
    expect(await keychain.resolve({ origin })).toMatchObject(credentials);
    await keychain.resolve({ origin });
    expect(asked).toEqual(["/api/v1/namespaces/team/secrets/broken", "/api/v1/namespaces/team/secrets/old"]);
  });
  test("secrets are asked for again after a minute, and an unreachable API is a typed error without the token", async () => {
    let now = 0;
    const clock = { now: () => now, sleep: () => new Promise<void>(() => {}) };
    const { url, close, asked, directory } = await kubernetes({ "/api/v1/namespaces/team/secrets/pull": secret(config) });
    const keychain = kubernetesKeychain({ apiServer: url, accountDirectory: directory, secrets: ["pull"], clock });
    await keychain.resolve({ origin });
    now += 61_000;
    await keychain.resolve({ origin });
    expect(asked).toHaveLength(2);
    const other = kubernetesKeychain({ apiServer: "http://127.0.0.1:1", accountDirectory: directory });
    await expect(other.resolve({ origin })).rejects.toMatchObject({
      code: "UNAVAILABLE",
      message: expect.not.stringContaining("account-token"),
    });
    await close();
  });
  test("names cannot leave their place in the URL", () => {
    expect(() => kubernetesKeychain({ namespace: "a/../b" })).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
  });
});

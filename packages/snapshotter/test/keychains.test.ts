import { existsSync } from "node:fs";
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Clock } from "@estargz/interface";
import { testCertificate } from "@estargz/testing";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type CriAuth, createCriKeychain, kubeletKeychain, kubernetesKeychain } from "../src/index.ts";
import { parseGoDuration } from "../src/keychain/kubelet-keychain.ts";
import { matchesImage } from "../src/keychain/match-image.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "estargz-keychain-"));
});
afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

const NO_AUTH: CriAuth = { username: "", password: "", auth: "", serverAddress: "", identityToken: "", registryToken: "" };
const request = { origin: "https://registry.example", repository: "team/app", reference: "registry.example/team/app:1" };

describe("credentials of CRI pulls", () => {
  it("are given to the image's own registry only", async () => {
    const keychain = createCriKeychain();
    keychain.remember("registry.example/team/app:1", { ...NO_AUTH, username: "u", password: "p" });
    expect(await keychain.resolve(request)).toEqual({ type: "basic", username: "u", password: "p" });
    expect(await keychain.resolve({ ...request, origin: "https://mirror.example" })).toBeUndefined();
    expect(await keychain.resolve({ ...request, reference: "registry.example/team/other:1" })).toBeUndefined();
    expect(await keychain.resolve({ origin: request.origin })).toBeUndefined();
    // A digest of the same repository, as kubelets name images later on.
    expect(await keychain.resolve({ ...request, reference: `registry.example/team/app@sha256:${"0".repeat(64)}` })).toBeDefined();
  });

  it.each([
    [
      { ...NO_AUTH, auth: Buffer.from("u:p:q").toString("base64") },
      { type: "basic", username: "u", password: "p:q" },
    ],
    [
      { ...NO_AUTH, identityToken: "t" },
      { type: "identity-token", token: "t" },
    ],
    [
      { ...NO_AUTH, registryToken: "t" },
      { type: "registry-token", token: "t" },
    ],
  ])("come in every form of CRI", async (auth, expected) => {
    const keychain = createCriKeychain();
    keychain.remember(request.reference, auth);
    expect(await keychain.resolve(request)).toEqual(expected);
  });

  it("stay when a later pull has none, and come back when one with others fails", async () => {
    const keychain = createCriKeychain();
    keychain.remember(request.reference, { ...NO_AUTH, username: "u", password: "good" });
    keychain.remember(request.reference, NO_AUTH);
    keychain.remember(request.reference, undefined);
    const undo = keychain.remember(request.reference, { ...NO_AUTH, username: "u", password: "bad" });
    expect(await keychain.resolve(request)).toMatchObject({ password: "bad" });
    undo();
    expect(await keychain.resolve(request)).toMatchObject({ password: "good" });
    keychain.forget(request.reference);
    expect(await keychain.resolve(request)).toBeUndefined();
  });

  it("know Docker Hub by its names, and short references", async () => {
    const keychain = createCriKeychain();
    keychain.remember("node:24", { ...NO_AUTH, username: "u", password: "p", serverAddress: "https://index.docker.io/v1/" });
    const hub = { origin: "https://registry-1.docker.io", repository: "library/node", reference: "docker.io/library/node:24" };
    expect(await keychain.resolve(hub)).toBeDefined();
  });

  it("outlive the process in a file that only its owner can read", async () => {
    const statePath = join(folder, "run", "credentials.json");
    createCriKeychain({ statePath }).remember(request.reference, { ...NO_AUTH, username: "u", password: "p" });
    expect((await stat(statePath)).mode & 0o777).toBe(0o600);
    expect(await createCriKeychain({ statePath }).resolve(request)).toMatchObject({ username: "u" });
    await writeFile(statePath, "not JSON");
    expect(await createCriKeychain({ statePath }).resolve(request)).toBeUndefined();
  });
});

describe("kubelet credential providers", () => {
  let nowMs: number;
  const clock: Clock = { now: () => nowMs, sleep: async () => {} };

  async function provider(script: string, timeoutMs?: number): Promise<ReturnType<typeof kubeletKeychain>> {
    nowMs = 1_000_000;
    await writeFile(join(folder, "helper"), `#!/bin/bash\n${script}\n`);
    await chmod(join(folder, "helper"), 0o755);
    const configPath = join(folder, "config.yaml");
    await writeFile(
      configPath,
      `apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
  - name: helper
    apiVersion: credentialprovider.kubelet.k8s.io/v1
    matchImages: ["*.example"]
    defaultCacheDuration: 1h
    args: [get]
    env: [{name: REGION, value: north}]
`,
    );
    return kubeletKeychain({ configPath, binDirectory: folder, clock, timeoutMs });
  }

  /** Waits until a helper has written a file. */
  async function written(name: string): Promise<string> {
    for (;;) {
      const text = await readFile(join(folder, name), "utf8").catch(() => "");
      if (text.endsWith("\n")) return text.trim();
      await sleep(10);
    }
  }

  it("are asked as the kubelet asks them, and their answers kept as long as they say", async () => {
    const keychain = await provider(`
count=$(cat ${folder}/count 2>/dev/null || echo 0); echo $((count + 1)) > ${folder}/count
input=$(cat); [[ "$input" == *'"image":"registry.example/team/app:1"'* && "$1" == get ]] || exit 3
echo '{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":"Registry","cacheDuration":"10m0s","auth":{"*.example":{"username":"any","password":"x"},"registry.example/team":{"username":"'$REGION'","password":"'$count'"}}}'`);
    expect(await keychain.resolve(request)).toEqual({ type: "basic", username: "north", password: "0", expiresAtMs: nowMs + 600_000 });
    expect(await keychain.resolve(request)).toMatchObject({ password: "0" });
    nowMs += 600_001;
    expect(await keychain.resolve(request)).toMatchObject({ password: "1" });
  });

  it("run once for many who ask at the same time", async () => {
    const keychain = await provider(`
echo x >> ${folder}/runs; cat >/dev/null
echo '{"kind":"CredentialProviderResponse","cacheKeyType":"Global","auth":{"registry.example":{"username":"u","password":"p"}}}'`);
    const answers = await Promise.all(Array.from({ length: 20 }, () => keychain.resolve(request)));
    expect(new Set(answers.map((answer) => JSON.stringify(answer))).size).toBe(1);
    expect((await stat(join(folder, "runs"))).size).toBe(2);
  });

  it("are not asked about other images, and fail with a typed error", async () => {
    const keychain = await provider("exit 5");
    expect(await keychain.resolve({ ...request, reference: "other.test/a:1" })).toBeUndefined();
    await expect(keychain.resolve(request)).rejects.toMatchObject({ code: "UNAUTHORIZED" });
    const broken = await provider("cat >/dev/null; echo nonsense");
    await expect(broken.resolve(request)).rejects.toMatchObject({ code: "INVALID_RESPONSE" });
  });

  it("are left alone by who aborts, and ended when nobody waits any more", async () => {
    const keychain = await provider(`
echo $$ > ${folder}/pid; exec sleep 1000`);
    const [first, second] = [new AbortController(), new AbortController()];
    const answers = [first, second].map(({ signal }) => keychain.resolve(request, { signal }).catch((error: unknown) => error));
    const pid = await written("pid");
    first.abort(new Error("first left"));
    expect(await answers[0]).toMatchObject({ message: "first left" });
    expect(existsSync(`/proc/${pid}`)).toBe(true);
    second.abort(new Error("second left"));
    expect(await answers[1]).toMatchObject({ message: "second left" });
    while (existsSync(`/proc/${pid}`)) await sleep(10);
  });

  it("end with a typed error when they take too long, and when they cannot be run", async () => {
    const keychain = await provider("exec sleep 1000", 200);
    await expect(keychain.resolve(request)).rejects.toMatchObject({ code: "TIMEOUT" });
    await rm(join(folder, "helper"));
    await expect(keychain.resolve(request)).rejects.toMatchObject({ code: "INVALID_CONFIG" });
  });

  it("have durations as Go writes them", () => {
    expect(["0s", "1h", "12h0m5s", "1.5s", "100ms"].map(parseGoDuration)).toEqual([0, 3_600_000, 43_205_000, 1500, 100]);
  });

  it.each([
    ["*.dkr.ecr.*.amazonaws.com", "1.dkr.ecr.eu-1.amazonaws.com/a:1", true],
    ["*.amazonaws.com", "1.dkr.ecr.eu-1.amazonaws.com/a:1", false],
    ["registry.io:8080/path", "registry.io:8080/path/app", true],
    ["registry.io:8080/path", "registry.io/path/app", false],
    ["registry.io/path", "registry.io/other", false],
    ["https://registry.io/v1/", "registry.io/a", true],
  ])("match images as Kubernetes does: %s, %s", (pattern, image, expected) => {
    expect(matchesImage(pattern, image)).toBe(expected);
  });
});

describe("Kubernetes pull secrets", () => {
  let server: Server;
  let asked: string[];
  let secrets: readonly { namespace: string; name: string; config: unknown }[];
  let status: number;

  beforeEach(async () => {
    asked = [];
    status = 200;
    server = createServer({ key: testCertificate.key, cert: testCertificate.certificate }, (incoming, response) => {
      asked.push(`${incoming.headers.authorization} ${incoming.url}`);
      const items = secrets.map(({ namespace, name, config }) => ({
        metadata: { namespace, name },
        data: { ".dockerconfigjson": Buffer.from(typeof config === "string" ? config : JSON.stringify(config)).toString("base64") },
      }));
      response.writeHead(status, { "content-type": "application/json" });
      response.end(JSON.stringify({ metadata: {}, items }));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  });
  afterEach(async () => {
    server.closeAllConnections();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  });

  async function kubeconfig(): Promise<string> {
    const path = join(folder, "kubeconfig");
    const ca = Buffer.from(testCertificate.certificate).toString("base64");
    await writeFile(join(folder, "token"), "first\n");
    await writeFile(
      path,
      `current-context: c
contexts: [{name: c, context: {cluster: k, user: u}}]
clusters: [{name: k, cluster: {server: "https://127.0.0.1:${(server.address() as AddressInfo).port}", certificate-authority-data: ${ca}}}]
users: [{name: u, user: {tokenFile: token}}]
`,
    );
    return path;
  }

  function auths(host: string, username: string): unknown {
    return { auths: { [host]: { username, password: "p" } } };
  }

  it("are found by host and path, in order of namespace, and looked at again", async () => {
    let nowMs = 0;
    const clock: Clock = { now: () => nowMs, sleep: async () => {} };
    secrets = [
      { namespace: "b", name: "s", config: auths("registry.example", "from-b") },
      { namespace: "a", name: "broken", config: "{" },
      { namespace: "a", name: "z", config: auths("https://registry.example/team", "from-a") },
    ];
    const keychain = kubernetesKeychain({ kubeconfigPath: await kubeconfig(), clock });
    expect(await keychain.resolve(request)).toEqual({ type: "basic", username: "from-a", password: "p" });
    expect(await keychain.resolve({ ...request, repository: "else" })).toMatchObject({ username: "from-b" });
    expect(asked).toEqual(["Bearer first /api/v1/secrets?fieldSelector=type%3Dkubernetes.io%2Fdockerconfigjson&limit=250"]);
    secrets = [{ namespace: "a", name: "z", config: auths("registry.example", "new") }];
    await writeFile(join(folder, "token"), "second\n");
    nowMs = 30_001;
    expect(await keychain.resolve(request)).toMatchObject({ username: "new" });
    expect(asked[1]).toMatch(/^Bearer second/);
    // The API server being away takes nothing away.
    status = 500;
    nowMs = 70_000;
    expect(await keychain.resolve(request)).toMatchObject({ username: "new" });
  });

  it("can be limited to namespaces", async () => {
    secrets = [];
    await kubernetesKeychain({ kubeconfigPath: await kubeconfig(), namespaces: ["x", "y"] }).resolve(request);
    expect(asked.map((line) => line.split(" ")[2]?.split("?")[0])).toEqual([
      "/api/v1/namespaces/x/secrets",
      "/api/v1/namespaces/y/secrets",
    ]);
  });
});

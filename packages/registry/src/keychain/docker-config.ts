import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { type Credentials, EstargzError, type Keychain, type KeychainRequest } from "@estargz/interface";
import { z } from "zod";
import { askCredentialHelper } from "./credential-helper.ts";

const entrySchema = z.object({
  auth: z.string().optional(),
  username: z.string().optional(),
  password: z.string().optional(),
  identitytoken: z.string().optional(),
  registrytoken: z.string().optional(),
});
const configSchema = z.object({
  auths: z.record(z.string(), entrySchema.nullable()).optional(),
  credsStore: z.string().optional(),
  credHelpers: z.record(z.string(), z.string()).optional(),
});
/** An entry of `auths`. */
interface DockerConfigEntry {
  readonly auth?: string | undefined;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  readonly identitytoken?: string | undefined;
  readonly registrytoken?: string | undefined;
}
/** What of Docker's config.json concerns credentials. */
export interface DockerConfig {
  readonly auths?: Readonly<Record<string, DockerConfigEntry | null>> | undefined;
  readonly credsStore?: string | undefined;
  readonly credHelpers?: Readonly<Record<string, string>> | undefined;
}

const HUB = "https://index.docker.io/v1/";
const HUB_HOSTS = new Set(["registry-1.docker.io", "index.docker.io", "docker.io"]);

/** Parses a config.json (or the content of a `kubernetes.io/dockerconfigjson` secret). @throws `INVALID_CONFIG` */
export function parseDockerConfig(text: string, name: string): DockerConfig {
  try {
    return configSchema.parse(JSON.parse(text));
  } catch (cause) {
    // The parser's own message may quote the file: it is not repeated.
    const kind = cause instanceof SyntaxError ? "it is not JSON" : "a field has the wrong type";
    throw new EstargzError("INVALID_CONFIG", `${name} cannot be read as Docker's config.json: ${kind}`);
  }
}

/** Credentials of one entry of `auths`. */
function credentialsOf(entry: DockerConfigEntry, name: string): Credentials | undefined {
  if (entry.identitytoken) return { type: "identity-token", token: entry.identitytoken };
  if (entry.registrytoken) return { type: "registry-token", token: entry.registrytoken };
  if (entry.auth) {
    const decoded = Buffer.from(entry.auth, "base64").toString("utf8").replace(/\0+$/, "");
    const colon = decoded.indexOf(":");
    if (colon < 0) throw new EstargzError("INVALID_CONFIG", `${name} has an auth entry that is not the base64 of user:password`);
    return { type: "basic", username: decoded.slice(0, colon), password: decoded.slice(colon + 1) };
  }
  if (entry.username && entry.password !== undefined) return { type: "basic", username: entry.username, password: entry.password };
  return undefined;
}

/** Host, port and path of a key, which may be a URL as Docker once wrote them. */
function normalKey(key: string): string {
  return key
    .replace(/^https?:\/\//, "")
    .replace(/\/+$/, "")
    .replace(/\/v[12]$/, "");
}

/** Keys that fit a request, the most specific first: `host/a/b`, `host/a`, `host`. */
function wantedKeys({ origin, repository }: KeychainRequest): string[] {
  const { host, hostname } = new URL(origin);
  const hosts = HUB_HOSTS.has(hostname) ? ["index.docker.io", "docker.io", "registry-1.docker.io"] : [host];
  const parts = repository?.split("/") ?? [];
  const keys: string[] = [];
  for (const name of hosts) {
    for (let count = parts.length; count >= 0; count--) keys.push([name, ...parts.slice(0, count)].join("/"));
  }
  return keys;
}

/** Kubernetes allows `*.example.com` in the host of a key; each star stands for one label. */
function matchesGlob(pattern: string, key: string): boolean {
  if (!pattern.includes("*")) return false;
  const [patternHost = "", ...patternPath] = pattern.split("/");
  const [host = "", ...path] = key.split("/");
  const labels = host.split(".");
  const wanted = patternHost.split(".");
  const fits = labels.length === wanted.length && wanted.every((label, index) => label === "*" || label === labels[index]);
  return fits && path.join("/") === patternPath.join("/");
}

/** Looks up the entry of `auths` for a request. */
export function findInDockerConfig(config: DockerConfig, request: KeychainRequest, name: string): Credentials | undefined {
  const entries = Object.entries(config.auths ?? {}).map(([key, entry]) => ({ key: normalKey(key), entry }));
  for (const wanted of wantedKeys(request)) {
    const found = entries.find(({ key }) => key === wanted) ?? entries.find(({ key }) => matchesGlob(key, wanted));
    const credentials = found?.entry ? credentialsOf(found.entry, name) : undefined;
    if (credentials !== undefined) return credentials;
  }
  return undefined;
}

/** Options of {@link dockerConfigKeychain}. */
export interface DockerConfigOptions {
  /** File to read. Default `$DOCKER_CONFIG/config.json`, or `~/.docker/config.json`. */
  readonly path?: string | undefined;
  readonly env?: NodeJS.ProcessEnv | undefined;
  /** Deadline of a credential helper, in milliseconds. Default 30,000. */
  readonly helperTimeoutMs?: number | undefined;
}

async function readConfig(path: string): Promise<DockerConfig | undefined> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new EstargzError("INVALID_CONFIG", `${path} cannot be read`, { cause });
  }
  return parseDockerConfig(text, path);
}

/** A keychain over a file in the format of Docker's config.json, read anew at each question. */
function fileKeychain(path: string, options: DockerConfigOptions): Keychain {
  const { env, helperTimeoutMs: timeoutMs } = options;
  return {
    resolve: async (request, { signal } = {}) => {
      const config = await readConfig(path);
      if (config === undefined) return undefined;
      const { host, hostname } = new URL(request.origin);
      const hub = HUB_HOSTS.has(hostname);
      const helpers = config.credHelpers ?? {};
      const own = helpers[host] ?? (hub ? (helpers["docker.io"] ?? helpers["index.docker.io"] ?? helpers[HUB]) : undefined);
      const ask = (name: string, server: string): Promise<Credentials | undefined> =>
        askCredentialHelper({ name, server, timeoutMs, env, signal });
      if (own !== undefined) return ask(own, hub ? HUB : host);
      if (config.credsStore) {
        const stored = await ask(config.credsStore, hub ? HUB : host);
        if (stored !== undefined) return stored;
      }
      return findInDockerConfig(config, request, path);
    },
  };
}

/**
 * Docker's credentials: `config.json` with `auths`, `credHelpers` and `credsStore`. The file is read and helpers are
 * asked at each question, so that logins and rotations show without a restart. A missing file means no credentials.
 */
export function dockerConfigKeychain(options: DockerConfigOptions = {}): Keychain {
  const env = options.env ?? process.env;
  return fileKeychain(options.path ?? join(env["DOCKER_CONFIG"] ?? join(homedir(), ".docker"), "config.json"), options);
}

/**
 * Podman's credentials: `$REGISTRY_AUTH_FILE`, `$XDG_RUNTIME_DIR/containers/auth.json`,
 * `~/.config/containers/auth.json`, whichever exists first with an answer.
 */
export function podmanKeychain(options: DockerConfigOptions = {}): Keychain {
  const env = options.env ?? process.env;
  const fixed = options.path ?? env["REGISTRY_AUTH_FILE"];
  const paths =
    fixed !== undefined && fixed !== ""
      ? [fixed]
      : [
          ...(env["XDG_RUNTIME_DIR"]
            ? [join(env["XDG_RUNTIME_DIR"], "containers", "auth.json")]
            : [`/run/containers/${process.getuid?.() ?? 0}/auth.json`]),
          join(env["XDG_CONFIG_HOME"] ?? join(homedir(), ".config"), "containers", "auth.json"),
        ];
  const keychains = paths.map((path) => fileKeychain(path, options));
  return {
    resolve: async (request, resolveOptions) => {
      for (const keychain of keychains) {
        const credentials = await keychain.resolve(request, resolveOptions);
        if (credentials !== undefined) return credentials;
      }
      return undefined;
    },
  };
}

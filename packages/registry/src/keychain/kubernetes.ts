import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Clock, EstargzError, type Keychain, type Logger, noLogger, systemClock } from "@estargz/interface";
import { Agent, request as httpRequest } from "undici";
import { z } from "zod";
import { type DockerConfig, findInDockerConfig, parseDockerConfig } from "./docker-config.ts";

const ACCOUNT_DIRECTORY = "/var/run/secrets/kubernetes.io/serviceaccount";
const MAX_ANSWER_BYTES = 4 * 1024 * 1024;
const NAME = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;

/** Parses the content of a pull secret: `.dockerconfigjson`, or the older `.dockercfg`, which is its `auths` alone. */
function parseSecret(text: string, legacy: boolean, name: string): DockerConfig {
  return legacy ? parseDockerConfig(`{"auths":${text}}`, name) : parseDockerConfig(text, name);
}

/**
 * Pull secrets that Kubernetes mounted as files. `paths` are the files (`…/.dockerconfigjson`, `…/.dockercfg`) or the
 * folders they are in; read anew at each question, so that rotations show.
 */
export function kubernetesFileKeychain(paths: readonly string[]): Keychain {
  return {
    resolve: async (request) => {
      for (const path of paths) {
        const named = path.endsWith(".dockerconfigjson") || path.endsWith(".dockercfg") || path.endsWith(".json");
        for (const file of named ? [path] : [join(path, ".dockerconfigjson"), join(path, ".dockercfg")]) {
          const text = await readFile(file, "utf8").catch(() => undefined);
          const credentials =
            text === undefined ? undefined : findInDockerConfig(parseSecret(text, file.endsWith(".dockercfg"), file), request, file);
          if (credentials !== undefined) return credentials;
        }
      }
      return undefined;
    },
  };
}

/** Options of {@link kubernetesKeychain}. */
export interface KubernetesKeychainOptions {
  /** Namespace whose secrets are read. Default: the pod's own. Secrets of other namespaces are never looked at. */
  readonly namespace?: string | undefined;
  /** Names of pull secrets. */
  readonly secrets?: readonly string[] | undefined;
  /** Service account whose `imagePullSecrets` are used. Default `default` when no secrets are named. */
  readonly serviceAccount?: string | undefined;
  /** URL of the API server. Default: from the pod's environment. */
  readonly apiServer?: string | undefined;
  /** Folder with `token`, `ca.crt` and `namespace`. Default: where Kubernetes mounts it. */
  readonly accountDirectory?: string | undefined;
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
  /** How long secrets are believed, in milliseconds. Default 60,000. */
  readonly maxAgeMs?: number | undefined;
  readonly clock?: Clock | undefined;
  readonly logger?: Logger | undefined;
}

const accountSchema = z.object({ imagePullSecrets: z.array(z.object({ name: z.string().optional() })).nullish() });
const secretSchema = z.object({ data: z.record(z.string(), z.string()).nullish() });

/** Asks the API server for one object. */
async function ask<T>(schema: z.ZodType<T>, path: string, options: KubernetesKeychainOptions, signal: AbortSignal | undefined): Promise<T> {
  const { accountDirectory = ACCOUNT_DIRECTORY, env = process.env } = options;
  const host = env["KUBERNETES_SERVICE_HOST"];
  const port = env["KUBERNETES_SERVICE_PORT"] ?? "443";
  const server = options.apiServer ?? (host === undefined ? undefined : `https://${host.includes(":") ? `[${host}]` : host}:${port}`);
  if (server === undefined) throw new EstargzError("UNAVAILABLE", "not in a Kubernetes pod: set apiServer and accountDirectory");
  const token = (await readFile(join(accountDirectory, "token"), "utf8")).trim();
  const ca = await readFile(join(accountDirectory, "ca.crt"), "utf8").catch(() => undefined);
  const agent = new Agent({
    connect: ca === undefined ? {} : { ca },
    headersTimeout: 10_000,
    bodyTimeout: 10_000,
    maxResponseSize: MAX_ANSWER_BYTES,
  });
  try {
    const headers = { authorization: `Bearer ${token}`, accept: "application/json" };
    const answer = await httpRequest(`${server}${path}`, { dispatcher: agent, headers, ...(signal === undefined ? {} : { signal }) });
    if (answer.statusCode !== 200) {
      await answer.body.dump();
      const code = answer.statusCode === 404 ? "NOT_FOUND" : answer.statusCode === 403 ? "FORBIDDEN" : "UNAVAILABLE";
      throw new EstargzError(code, `the Kubernetes API answered ${answer.statusCode} to ${path}`);
    }
    return schema.parse(await answer.body.json());
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof EstargzError) throw error;
    // The cause could hold what was read: only its kind is kept.
    throw new EstargzError("UNAVAILABLE", `the Kubernetes API could not be asked for ${path}`);
  } finally {
    await agent.destroy();
  }
}

async function loadConfigs(
  options: KubernetesKeychainOptions,
  signal: AbortSignal | undefined,
): Promise<{ name: string; config: DockerConfig }[]> {
  const { accountDirectory = ACCOUNT_DIRECTORY, logger = noLogger } = options;
  const namespace = options.namespace ?? (await readFile(join(accountDirectory, "namespace"), "utf8").catch(() => "default")).trim();
  const base = `/api/v1/namespaces/${namespace}`;
  const names = [...(options.secrets ?? [])];
  if (options.serviceAccount !== undefined || names.length === 0) {
    const account = await ask(accountSchema, `${base}/serviceaccounts/${options.serviceAccount ?? "default"}`, options, signal);
    for (const { name } of account.imagePullSecrets ?? []) if (name !== undefined) names.push(name);
  }
  const configs: { name: string; config: DockerConfig }[] = [];
  for (const name of new Set(names)) {
    try {
      const { data } = await ask(secretSchema, `${base}/secrets/${encodeURIComponent(name)}`, options, signal);
      const legacy = data?.[".dockerconfigjson"] === undefined;
      const encoded = data?.[".dockerconfigjson"] ?? data?.[".dockercfg"];
      if (encoded === undefined) continue;
      configs.push({ name, config: parseSecret(Buffer.from(encoded, "base64").toString("utf8"), legacy, `secret ${namespace}/${name}`) });
    } catch (error) {
      signal?.throwIfAborted();
      // One bad secret does not stop the rest.
      logger.warn(
        { secret: `${namespace}/${name}`, code: error instanceof EstargzError ? error.code : undefined },
        "a pull secret cannot be used",
      );
    }
  }
  return configs;
}

/**
 * Pull secrets from the Kubernetes API: those named, or those of a service account, of one namespace, in their order.
 * Needs permission to get them. Asked for again every minute.
 *
 * @throws `INVALID_ARGUMENT` for names that Kubernetes does not allow.
 */
export function kubernetesKeychain(options: KubernetesKeychainOptions = {}): Keychain {
  for (const name of [options.namespace, options.serviceAccount, ...(options.secrets ?? [])]) {
    if (name !== undefined && !NAME.test(name))
      throw new EstargzError("INVALID_ARGUMENT", `${JSON.stringify(name.slice(0, 80))} is no name of a Kubernetes object`);
  }
  const { clock = systemClock, maxAgeMs = 60_000 } = options;
  let loaded: { readonly atMs: number; readonly configs: Promise<{ name: string; config: DockerConfig }[]> } | undefined;
  return {
    resolve: async (request) => {
      if (loaded === undefined || clock.now() - loaded.atMs >= maxAgeMs) {
        const configs = loadConfigs(options, undefined);
        const current = { atMs: clock.now(), configs };
        loaded = current;
        configs.catch(() => {
          if (loaded === current) loaded = undefined;
        });
      }
      for (const { name, config } of await loaded.configs) {
        const credentials = findInDockerConfig(config, request, `secret ${name}`);
        if (credentials !== undefined) return credentials;
      }
      return undefined;
    },
  };
}

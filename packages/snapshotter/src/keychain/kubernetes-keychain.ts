import type { Clock, Credentials, Keychain, KeychainRequest, Logger } from "@estargz/interface";
import { noLogger, systemClock } from "@estargz/interface";
import { z } from "zod";
import { findCluster, listPullSecrets, type PullSecret } from "./kubernetes-client.ts";
import { matchesImage } from "./match-image.ts";

/** Options of {@link kubernetesKeychain}. */
export interface KubernetesKeychainOptions {
  /** Path of a kubeconfig; empty: `$KUBECONFIG`, the pod's service account, `~/.kube/config`. */
  readonly kubeconfigPath?: string | undefined;
  /** Only secrets of these namespaces, in this order. Default: all, by name. */
  readonly namespaces?: readonly string[] | undefined;
  /** How long a list of secrets is believed, in milliseconds. Default 30,000. */
  readonly maxAgeMs?: number | undefined;
  readonly clock?: Clock | undefined;
  readonly logger?: Logger | undefined;
}

const auth = z.object({
  username: z.string().default(""),
  password: z.string().default(""),
  auth: z.string().default(""),
  identitytoken: z.string().default(""),
});
const dockerConfig = z.object({ auths: z.record(z.string(), auth).default({}) });

function credentialsOf(entry: z.infer<typeof auth>): Credentials | undefined {
  if (entry.identitytoken !== "") return { type: "identity-token", token: entry.identitytoken };
  if (entry.username !== "") return { type: "basic", username: entry.username, password: entry.password };
  const text = Buffer.from(entry.auth, "base64").toString("utf8");
  const colon = text.indexOf(":");
  return colon < 1 ? undefined : { type: "basic", username: text.slice(0, colon), password: text.slice(colon + 1) };
}

/** Docker Hub's server goes by several names. */
function hubAware(key: string): string {
  return key.replace(/^(?:https?:\/\/)?(?:index\.docker\.io|registry-1\.docker\.io|docker\.io)(?:\/v[12]\/?)?/, "docker.io");
}

/** Credentials of an image in one secret: the longest key that matches wins. */
function findInSecret(secret: PullSecret, image: string): Credentials | undefined {
  const parsed = dockerConfig.safeParse(JSON.parse(secret.dockerConfig));
  if (!parsed.success) return undefined;
  const keys = Object.keys(parsed.data.auths).filter((key) => matchesImage(hubAware(key), image));
  for (const key of keys.sort((a, b) => b.length - a.length)) {
    const entry = parsed.data.auths[key];
    const credentials = entry === undefined ? undefined : credentialsOf(entry);
    if (credentials !== undefined) return credentials;
  }
  return undefined;
}

class KubernetesSecrets implements Keychain {
  readonly #options: KubernetesKeychainOptions;
  readonly #clock: Clock;
  readonly #logger: Logger;
  #secrets: readonly PullSecret[] = [];
  #listedAtMs = Number.NEGATIVE_INFINITY;
  #listing: Promise<void> | undefined;

  constructor(options: KubernetesKeychainOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#logger = options.logger ?? noLogger;
  }

  async resolve(request: KeychainRequest, options: { readonly signal?: AbortSignal | undefined } = {}): Promise<Credentials | undefined> {
    options.signal?.throwIfAborted();
    if (this.#clock.now() - this.#listedAtMs > (this.#options.maxAgeMs ?? 30_000)) {
      this.#listing ??= this.#list().finally(() => {
        this.#listing = undefined;
      });
      await this.#listing;
    }
    const host = new URL(request.origin).host.replace(/^registry-1\.docker\.io$/, "docker.io");
    const image = `${host}/${request.repository ?? ""}`;
    for (const secret of this.#secrets) {
      const credentials = findInSecret(secret, image);
      if (credentials !== undefined) return credentials;
    }
    return undefined;
  }

  /** Lists anew. When that fails the former list stays in use: the API server being away must not stop reads. */
  async #list(): Promise<void> {
    try {
      const cluster = await findCluster(this.#options.kubeconfigPath ?? "");
      const namespaces = this.#options.namespaces ?? [];
      const lists: PullSecret[][] = [];
      for (const namespace of namespaces.length === 0 ? [""] : namespaces) lists.push(await listPullSecrets(cluster, namespace));
      this.#secrets = lists.flat().filter((secret) => {
        try {
          JSON.parse(secret.dockerConfig);
          return true;
        } catch {
          this.#logger.warn({ namespace: secret.namespace, name: secret.name }, "pull secret is not JSON and is ignored");
          return false;
        }
      });
    } catch (error) {
      this.#logger.warn({ err: error }, "pull secrets can't be listed; those known so far stay in use");
    }
    this.#listedAtMs = this.#clock.now();
  }
}

/** Credentials from a cluster's secrets of type `kubernetes.io/dockerconfigjson`, looked at again every half minute. */
export function kubernetesKeychain(options: KubernetesKeychainOptions = {}): Keychain {
  return new KubernetesSecrets(options);
}

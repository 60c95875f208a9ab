import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Clock, Credentials, Keychain, KeychainRequest } from "@estargz/interface";
import { EstargzError, systemClock } from "@estargz/interface";
import { SingleFlight } from "@estargz/registry";
import { parse } from "yaml";
import { z } from "zod";
import { matchesImage } from "./match-image.ts";

/** Options of {@link kubeletKeychain}. */
export interface KubeletKeychainOptions {
  /** The kubelet's `--image-credential-provider-config`: YAML or JSON of kind CredentialProviderConfig. */
  readonly configPath: string;
  /** The kubelet's `--image-credential-provider-bin-dir`. */
  readonly binDirectory: string;
  /** Bound of one plugin run, in milliseconds. Default 30,000. */
  readonly timeoutMs?: number | undefined;
  readonly clock?: Clock | undefined;
}

const provider = z.object({
  name: z.string().regex(/^[^/]+$/),
  matchImages: z.array(z.string()).default([]),
  defaultCacheDuration: z.string().default("0s"),
  apiVersion: z.string(),
  args: z.array(z.string()).default([]),
  env: z.array(z.object({ name: z.string(), value: z.string() })).default([]),
});
const configuration = z.object({ kind: z.literal("CredentialProviderConfig"), providers: z.array(provider).default([]) });
const answer = z.object({
  kind: z.literal("CredentialProviderResponse"),
  cacheKeyType: z.enum(["Image", "Registry", "Global"]).default("Image"),
  cacheDuration: z.string().nullish(),
  auth: z.record(z.string(), z.object({ username: z.string(), password: z.string() })).nullish(),
});
type Provider = z.infer<typeof provider>;
type Answer = z.infer<typeof answer>;

const UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
const MAX_OUTPUT_BYTES = 1 << 20;

/** Go's duration strings, like `12h0m5s`, in milliseconds. */
export function parseGoDuration(text: string): number {
  let total = 0;
  for (const match of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)) total += Number(match[1]) * (UNITS_MS[match[2] ?? ""] ?? 0);
  return total;
}

async function runPlugin(path: string, configured: Provider, image: string, timeoutMs: number, signal: AbortSignal): Promise<Answer> {
  const env = { ...process.env, ...Object.fromEntries(configured.env.map(({ name, value }) => [name, value])) };
  const deadline = AbortSignal.timeout(timeoutMs);
  const child = spawn(path, configured.args, {
    env,
    stdio: ["pipe", "pipe", "ignore"],
    signal: AbortSignal.any([signal, deadline]),
  });
  child.stdin.on("error", () => {});
  child.stdin.end(JSON.stringify({ apiVersion: configured.apiVersion, kind: "CredentialProviderRequest", image }));
  const parts: Buffer[] = [];
  let length = 0;
  child.stdout.on("data", (part: Buffer) => {
    length += part.length;
    if (length <= MAX_OUTPUT_BYTES) parts.push(part);
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  }).catch((error: unknown) => {
    signal.throwIfAborted();
    if (deadline.aborted)
      throw new EstargzError("TIMEOUT", `credential provider ${configured.name} gave no answer within ${timeoutMs} ms for ${image}`);
    throw new EstargzError("INVALID_CONFIG", `credential provider ${configured.name} cannot be run`, { cause: error });
  });
  if (code !== 0) throw new EstargzError("UNAUTHORIZED", `credential provider ${configured.name} ended with ${code} for ${image}`);
  try {
    return answer.parse(JSON.parse(Buffer.concat(parts).toString("utf8")));
  } catch (error) {
    throw new EstargzError("INVALID_RESPONSE", `credential provider ${configured.name} gave no CredentialProviderResponse`, {
      cause: error,
    });
  }
}

interface Cached {
  readonly answer: Answer;
  readonly expiresAtMs: number;
}

class KubeletProviders implements Keychain {
  readonly #options: KubeletKeychainOptions;
  readonly #clock: Clock;
  readonly #cache = new Map<string, Cached>();
  readonly #flights = new SingleFlight<string, Cached>();

  constructor(options: KubeletKeychainOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  async resolve(request: KeychainRequest, options: { readonly signal?: AbortSignal | undefined } = {}): Promise<Credentials | undefined> {
    options.signal?.throwIfAborted();
    const image = request.reference ?? `${new URL(request.origin).host}/${request.repository ?? ""}`;
    const text = await readFile(this.#options.configPath, "utf8").catch((error: unknown) => {
      throw new EstargzError("INVALID_CONFIG", `cannot read the credential providers' configuration ${this.#options.configPath}`, {
        cause: error,
      });
    });
    const parsed = configuration.safeParse(parse(text));
    if (!parsed.success)
      throw new EstargzError("INVALID_CONFIG", `${this.#options.configPath} is not a CredentialProviderConfig: ${parsed.error.message}`);
    for (const configured of parsed.data.providers) {
      if (!configured.matchImages.some((pattern) => matchesImage(pattern, image))) continue;
      const found = await this.#ask(configured, image, options.signal);
      // The most specific pattern wins, as in the kubelet.
      const patterns = Object.keys(found.answer.auth ?? {}).filter((pattern) => matchesImage(pattern, image));
      const [best] = patterns.sort((a, b) => b.length - a.length);
      const auth = best === undefined ? undefined : found.answer.auth?.[best];
      if (auth !== undefined) return { type: "basic", username: auth.username, password: auth.password, expiresAtMs: found.expiresAtMs };
    }
    return undefined;
  }

  /**
   * A plugin's answer, from the cache while that is good; one run at a time for the same question, ended when nobody waits for
   * it any more.
   */
  async #ask(configured: Provider, image: string, signal: AbortSignal | undefined): Promise<Cached> {
    signal?.throwIfAborted();
    const registry = image.split("/", 1)[0] ?? "";
    const keys = [`Image ${image}`, `Registry ${registry}`, "Global"].map((key) => `${configured.name} ${key}`);
    for (const key of keys) {
      const cached = this.#cache.get(key);
      if (cached !== undefined && cached.expiresAtMs > this.#clock.now()) return cached;
    }
    return this.#flights.run(`${configured.name} ${image}`, (own) => this.#run(configured, image, registry, own), signal);
  }

  async #run(configured: Provider, image: string, registry: string, signal: AbortSignal): Promise<Cached> {
    const path = join(this.#options.binDirectory, configured.name);
    const given = await runPlugin(path, configured, image, this.#options.timeoutMs ?? 30_000, signal);
    const duration = parseGoDuration(given.cacheDuration ?? configured.defaultCacheDuration);
    const cached = { answer: given, expiresAtMs: this.#clock.now() + duration };
    const scope = given.cacheKeyType === "Image" ? `Image ${image}` : given.cacheKeyType === "Registry" ? `Registry ${registry}` : "Global";
    if (this.#cache.size >= 1000) this.#cache.clear();
    if (duration > 0) this.#cache.set(`${configured.name} ${scope}`, cached);
    return cached;
  }
}

/**
 * Credentials from the kubelet's credential-provider plugins (`credentialprovider.kubelet.k8s.io`): the same configuration
 * and the same programs that the kubelet uses. Answers are kept as long as they say; expired ones are asked for anew.
 */
export function kubeletKeychain(options: KubeletKeychainOptions): Keychain {
  return new KubeletProviders(options);
}

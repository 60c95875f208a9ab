import { readdir, readFile } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import { type Clock, EstargzError, systemClock } from "@estargz/interface";
import { parse } from "smol-toml";
import { z } from "zod";
import { type ConnectionSettings, DIRECT } from "../http/transport.ts";
import {
  ALL_CAPABILITIES,
  type HostCapability,
  type HostResolver,
  parseHostUrl,
  type RegistryHost,
  serverOf,
  upstreamHost,
} from "./host.ts";

const stringOrList = z.union([z.string(), z.array(z.string())]);
const hostSchema = z.object({
  capabilities: z.array(z.enum(["pull", "resolve", "push"])).optional(),
  ca: stringOrList.optional(),
  client: z.union([z.string(), z.array(z.union([z.string(), z.array(z.string()).min(1).max(2)]))]).optional(),
  skip_verify: z.boolean().optional(),
  header: z.record(z.string(), stringOrList).optional(),
  override_path: z.boolean().optional(),
  dial_timeout: z.string().optional(),
});
const fileSchema = hostSchema.extend({ server: z.string().optional(), host: z.record(z.string(), hostSchema).optional() });
type HostTable = z.infer<typeof hostSchema>;

const DURATION = /^(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+$/;
const UNIT_MS: Readonly<Record<string, number>> = { ns: 1e-6, us: 1e-3, µs: 1e-3, ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Parses Go's durations, like `3s` or `1m30s`, to milliseconds. */
function parseDuration(text: string, file: string): number {
  if (!DURATION.test(text))
    throw new EstargzError("INVALID_CONFIG", `${file}: dial_timeout ${JSON.stringify(text)} is not a duration like 3s`);
  let ms = 0;
  for (const [, number, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g)) ms += Number(number) * (UNIT_MS[unit ?? ""] ?? 0);
  return ms;
}

async function readPem(directory: string, path: string): Promise<string> {
  const file = isAbsolute(path) ? path : join(directory, path);
  try {
    return await readFile(file, "utf8");
  } catch (cause) {
    throw new EstargzError("INVALID_CONFIG", `${file}, which hosts.toml names, cannot be read`, { cause });
  }
}

function listOf<T>(value: T | readonly T[] | undefined): readonly T[] {
  if (value === undefined) return [];
  return Array.isArray(value) ? (value as readonly T[]) : [value as T];
}

async function connectionOf(table: HostTable, directory: string, file: string): Promise<ConnectionSettings> {
  const ca = await Promise.all(listOf(table.ca).map((path) => readPem(directory, path)));
  const clients = typeof table.client === "string" ? [table.client] : (table.client ?? []);
  const clientCertificates = await Promise.all(
    clients.map(async (entry) => {
      const [certificatePath = "", keyPath = certificatePath] = typeof entry === "string" ? [entry] : entry;
      const certificate = await readPem(directory, certificatePath);
      return { certificate, key: keyPath === "" || keyPath === certificatePath ? certificate : await readPem(directory, keyPath) };
    }),
  );
  const connection: ConnectionSettings = {
    ...(ca.length > 0 ? { ca } : {}),
    ...(clientCertificates.length > 0 ? { clientCertificates } : {}),
    ...(table.skip_verify === true ? { skipVerify: true } : {}),
    ...(table.dial_timeout === undefined ? {} : { connectTimeoutMs: parseDuration(table.dial_timeout, file) }),
  };
  return Object.keys(connection).length === 0 ? DIRECT : connection;
}

async function hostOf(url: string, table: HostTable, directory: string, file: string): Promise<RegistryHost> {
  const capabilities = table.capabilities === undefined ? ALL_CAPABILITIES : new Set<HostCapability>(table.capabilities);
  const header = table.header ?? {};
  return {
    url: parseHostUrl(url, table.override_path === true),
    capabilities,
    headers: Object.fromEntries(Object.entries(header).map(([name, value]) => [name.toLowerCase(), value])),
    connection: await connectionOf(table, directory, file),
  };
}

/** Servers of a parsed hosts.toml: its hosts in their order, then `server` or the host itself. */
async function parseHosts(text: string, host: string, directory: string, file: string): Promise<RegistryHost[]> {
  let value: unknown;
  try {
    value = parse(text);
  } catch (cause) {
    throw new EstargzError("INVALID_CONFIG", `${file} is not TOML`, { cause });
  }
  const result = fileSchema.safeParse(value);
  if (!result.success) {
    const issue = result.error.issues[0];
    throw new EstargzError("INVALID_CONFIG", `${file}: ${issue?.path.join(".") ?? ""}: ${issue?.message ?? ""}`, { cause: result.error });
  }
  const { server, host: tables = {}, ...root } = result.data;
  const hosts = await Promise.all(Object.entries(tables).map(([url, table]) => hostOf(url, table, directory, file)));
  return [...hosts, await hostOf(server ?? serverOf(host), root, directory, file)];
}

/** Docker's layout of certificates: *.crt are authorities; *.cert with *.key are shown. */
async function certificateFiles(directory: string, names: readonly string[]): Promise<ConnectionSettings> {
  const ca = names.filter((name) => name.endsWith(".crt"));
  const pairs = names.filter((name) => name.endsWith(".cert")).map((name) => [name, name.replace(/\.cert$/, ".key")]);
  return await connectionOf({ ...(ca.length > 0 ? { ca } : {}), ...(pairs.length > 0 ? { client: pairs } : {}) }, directory, directory);
}

/** Names of the folders that may hold a host's file, in order (containerd, docs/hosts.md). */
function foldersOf(host: string): string[] {
  const port = /^(.*):(\d+)$/.exec(host);
  return [...(port === null ? [] : [`${port[1]}_${port[2]}_`]), host, "_default"];
}

async function load(directories: readonly string[], host: string, plainHttpHosts: readonly string[]): Promise<readonly RegistryHost[]> {
  for (const root of directories) {
    for (const folder of foldersOf(host)) {
      const directory = join(root, folder);
      let names: string[];
      try {
        names = await readdir(directory);
      } catch {
        continue;
      }
      if (names.includes("hosts.toml")) {
        const file = join(directory, "hosts.toml");
        const upstream = folder === "_default" ? serverOf(host) : host;
        return parseHosts(await readFile(file, "utf8"), upstream, directory, file);
      }
      const connection = await certificateFiles(directory, names.toSorted());
      if (connection !== DIRECT) return [{ ...upstreamHost(host, plainHttpHosts), connection }];
    }
  }
  return [upstreamHost(host, plainHttpHosts)];
}

/** Options of {@link hostsDirectory}. */
export interface HostsDirectoryOptions {
  readonly plainHttpHosts?: readonly string[] | undefined;
  /** How long a file that was read is believed, in milliseconds. Default 5,000. */
  readonly maxAgeMs?: number | undefined;
  readonly clock?: Clock | undefined;
}

/**
 * Reads containerd's `hosts.toml` files (its `config_path`): `DIRECTORY/HOST[_PORT_]/hosts.toml`, then `_default`.
 * All fields are supported: server, capabilities, override_path, ca, client, skip_verify, header, dial_timeout.
 * Files are read again after a few seconds, so that changes need no restart.
 *
 * @throws `INVALID_CONFIG` at the first use of a malformed file, naming it.
 */
export function hostsDirectory(directories: string | readonly string[], options: HostsDirectoryOptions = {}): HostResolver {
  const { plainHttpHosts = [], maxAgeMs = 5000, clock = systemClock } = options;
  const roots = typeof directories === "string" ? directories.split(":").filter((part) => part !== "") : directories;
  const loaded = new Map<string, { readonly hosts: Promise<readonly RegistryHost[]>; readonly atMs: number }>();
  return {
    hosts: (host) => {
      const known = loaded.get(host);
      const now = clock.now();
      if (known !== undefined && now - known.atMs < maxAgeMs) return known.hosts;
      const hosts = load(roots, host, plainHttpHosts);
      loaded.set(host, { hosts, atMs: now });
      hosts.catch(() => loaded.delete(host));
      return hosts;
    },
  };
}

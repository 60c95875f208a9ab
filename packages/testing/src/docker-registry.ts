import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { get } from "node:http";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { EstargzError } from "@estargz/interface";

/** Options of {@link startDockerRegistry}. */
export interface DockerRegistryOptions {
  /** Folder that holds the registry's data and outlives it. Default: a temporary one, removed by `close`. */
  readonly directory?: string | undefined;
  /** User names and bcrypt hashes, as an htpasswd file has them, to ask for Basic credentials. Default: anonymous. */
  readonly htpasswd?: string | undefined;
  /** Upstream URL to be a pull-through cache of. */
  readonly proxyUrl?: string | undefined;
}

/** A running registry. */
export interface DockerRegistry {
  /** `127.0.0.1:PORT`. */
  readonly address: string;
  /** Folder with the registry's data. */
  readonly directory: string;
  readonly pid: number;
  /** Ends the process and removes its temporary folder. Idempotent. */
  close(): Promise<void>;
}

const PATHS = ["/usr/bin/docker-registry", "/usr/local/bin/docker-registry"];

/** Where docker-registry is installed, or `undefined`. */
export function findDockerRegistry(): string | undefined {
  return PATHS.find((path) => existsSync(path));
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Says whether an HTTP server, and this process' one, answers. */
function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    get(`http://127.0.0.1:${port}/v2/`, (response) => {
      response.resume();
      resolve(response.headers["docker-distribution-api-version"] !== undefined);
    }).on("error", () => resolve(false));
  });
}

function configuration(port: number, directory: string, options: DockerRegistryOptions): string {
  const auth = options.htpasswd === undefined ? "" : `auth:\n  htpasswd:\n    realm: test\n    path: ${join(directory, "htpasswd")}\n`;
  const proxy = options.proxyUrl === undefined ? "" : `proxy:\n  remoteurl: ${options.proxyUrl}\n`;
  return `version: 0.1
log: {level: error}
storage:
  filesystem: {rootdirectory: ${join(directory, "data")}, maxthreads: 200}
  delete: {enabled: true}
  maintenance: {uploadpurging: {enabled: false}}
http: {addr: "127.0.0.1:${port}", headers: {X-Content-Type-Options: [nosniff]}}
${auth}${proxy}`;
}

/** The process, once it answers; `undefined` when it ended (its port was taken meanwhile). */
async function start(file: string, directory: string, options: DockerRegistryOptions): Promise<DockerRegistry | undefined> {
  const port = await freePort();
  const config = join(directory, "config.yml");
  await writeFile(config, configuration(port, directory, options));
  if (options.htpasswd !== undefined) await writeFile(join(directory, "htpasswd"), options.htpasswd);
  const child = spawn(file, ["serve", config], { stdio: "ignore", env: { ...process.env, OTEL_TRACES_EXPORTER: "none" } });
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()).once("error", () => resolve()));
  const { pid } = child;
  const close = async (): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
    await exited;
    if (options.directory === undefined) await rm(directory, { recursive: true, force: true, maxRetries: 5 });
  };
  for (let attempt = 0; attempt < 1200 && pid !== undefined; attempt++) {
    if (child.exitCode !== null || child.signalCode !== null) return undefined;
    if (await answers(port)) return { address: `127.0.0.1:${port}`, directory, pid, close };
    await sleep(50);
  }
  await close();
  throw new EstargzError("UNAVAILABLE", "docker-registry did not answer within 60 s");
}

/**
 * Starts Debian's docker-registry on a free port of 127.0.0.1, with deletion on.
 *
 * @throws `UNAVAILABLE` when it is not installed (`apt-get install docker-registry`) or does not start.
 */
export async function startDockerRegistry(options: DockerRegistryOptions = {}): Promise<DockerRegistry> {
  const file = findDockerRegistry();
  if (file === undefined) throw new EstargzError("UNAVAILABLE", "docker-registry is not installed: apt-get install docker-registry");
  const directory = options.directory ?? (await mkdtemp(join(tmpdir(), "estargz-registry-")));
  for (let attempt = 0; attempt < 5; attempt++) {
    const registry = await start(file, directory, options);
    if (registry !== undefined) return registry;
  }
  throw new EstargzError("UNAVAILABLE", "docker-registry ended at once five times: run `docker-registry serve` to see why");
}

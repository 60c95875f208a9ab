import { type ChildProcess, execFile, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { createWriteStream } from "node:fs";
import { access, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Options of {@link startContainerd}. */
export interface StartContainerdOptions {
  /** Snapshotters served by other processes: name to socket. They may start later. */
  readonly snapshotters?: Readonly<Record<string, string>> | undefined;
  /** Turns the Kubernetes interface (CRI) on, with this snapshotter and sandbox image. Default off. */
  readonly cri?: { readonly snapshotter: string; readonly sandboxImage?: string | undefined } | undefined;
  /** Folder for everything; it must be a short path. Default: a new one under the system's temporary folder. */
  readonly folder?: string | undefined;
  /** The daemon. Default Debian's `containerd`. */
  readonly binary?: string | undefined;
  /** Lines added to the configuration. */
  readonly extraConfig?: string | undefined;
  /** Version of the configuration file: 2 (default), or 3 for containerd 2.x. */
  readonly configVersion?: 2 | 3 | undefined;
}

/** What a command gave. */
export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Options of {@link Containerd.ctr}. */
export interface CtrOptions {
  /** containerd's namespace. Default {@link Containerd.namespace}. */
  readonly namespace?: string | undefined;
  /** Gives the result of a failed command instead of throwing. Default false. */
  readonly allowFailure?: boolean | undefined;
  /** Default `ctr`; `ctr-remote` is the other one. */
  readonly binary?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Default 5 minutes. */
  readonly timeoutMs?: number | undefined;
  /** Encoding of the outputs; `latin1` keeps every byte. Default `utf8`. */
  readonly encoding?: "utf8" | "latin1" | undefined;
}

/** A containerd of a test's own. */
export interface Containerd extends AsyncDisposable {
  /** Its gRPC socket (CRI as well). */
  readonly address: string;
  readonly folder: string;
  /**
   * Its namespace: a name of its own, as runc keeps containers by namespace and id for the whole machine, and two of these daemons may run
   * containers of one id at once.
   */
  readonly namespace: string;
  /** File that holds its output. */
  readonly logPath: string;
  readonly pid: number | undefined;
  /** Runs `ctr` against it; throws with both outputs unless `allowFailure`. */
  ctr(args: readonly string[], options?: CtrOptions): Promise<CommandResult>;
  /** Ends the daemon with `signal` (default SIGTERM) and starts it again; containers go on. */
  restart(signal?: NodeJS.Signals): Promise<void>;
  /** Ends every container, the daemon and its shims, takes all mounts away and removes the folder. Idempotent. */
  stop(): Promise<void>;
}

const DISABLED = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.native",
  "io.containerd.internal.v1.opt",
  "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.internal.v1.tracing",
];

/** Runs a command to its end and gives its outputs; never throws for an exit code. */
export function runCommand(
  command: string,
  args: readonly string[],
  options: Pick<CtrOptions, "signal" | "timeoutMs" | "encoding"> = {},
): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    execFile(
      command,
      [...args],
      {
        maxBuffer: 1 << 28,
        encoding: options.encoding ?? "utf8",
        timeout: options.timeoutMs ?? 300_000,
        ...(options.signal ? { signal: options.signal } : {}),
      },
      (error, stdout, stderr) => {
        if (error !== null && typeof error.code !== "number" && !error.killed) reject(error);
        else resolve({ code: error === null ? 0 : typeof error.code === "number" ? error.code : 124, stdout, stderr });
      },
    );
  });
}

function configuration(folder: string, address: string, options: StartContainerdOptions): string {
  const version = options.configVersion ?? 2;
  const disabled = options.cri === undefined ? ["io.containerd.grpc.v1.cri", ...DISABLED] : DISABLED;
  const lines = [
    `version = ${version}`,
    `root = ${JSON.stringify(join(folder, "root"))}`,
    `state = ${JSON.stringify(join(folder, "state"))}`,
    `oom_score = 0`,
    `disabled_plugins = ${JSON.stringify(disabled)}`,
    `[grpc]`,
    `  address = ${JSON.stringify(address)}`,
    `[ttrpc]`,
    `  address = ${JSON.stringify(`${address}.ttrpc`)}`,
  ];
  for (const [name, socket] of Object.entries(options.snapshotters ?? {})) {
    lines.push(`[proxy_plugins.${JSON.stringify(name)}]`, `  type = "snapshot"`, `  address = ${JSON.stringify(socket)}`);
  }
  if (options.cri !== undefined && version === 2) lines.push(...criConfiguration(folder, options.cri));
  if (options.extraConfig !== undefined) lines.push(options.extraConfig);
  return `${lines.join("\n")}\n`;
}

function criConfiguration(folder: string, cri: NonNullable<StartContainerdOptions["cri"]>): string[] {
  const plugin = `plugins."io.containerd.grpc.v1.cri"`;
  return [
    `[${plugin}]`,
    `  disable_tcp_service = true`,
    `  stream_server_address = "127.0.0.1"`,
    `  stream_server_port = "0"`,
    `  restrict_oom_score_adj = true`,
    ...(cri.sandboxImage === undefined ? [] : [`  sandbox_image = ${JSON.stringify(cri.sandboxImage)}`]),
    `[${plugin}.containerd]`,
    `  snapshotter = ${JSON.stringify(cri.snapshotter)}`,
    `  disable_snapshot_annotations = false`,
    `[${plugin}.cni]`,
    `  bin_dir = ${JSON.stringify(join(folder, "cni-bin"))}`,
    `  conf_dir = ${JSON.stringify(join(folder, "cni-conf"))}`,
  ];
}

/** Resolves when a unix socket accepts connections; rejects after `timeoutMs` or when `alive` says no. */
export async function waitForSocket(
  path: string,
  options: { readonly timeoutMs?: number; readonly alive?: () => boolean } = {},
): Promise<void> {
  const deadline = Date.now() + (options.timeoutMs ?? 120_000);
  for (;;) {
    const connected = await new Promise<boolean>((resolve) => {
      const socket = connect(path);
      socket.once("connect", () => {
        socket.destroy();
        resolve(true);
      });
      socket.once("error", () => resolve(false));
    });
    if (connected) return;
    if (options.alive?.() === false) throw new Error(`the process that should serve ${path} has ended`);
    if (Date.now() > deadline) throw new Error(`nothing answers on ${path}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Pids of shims that serve a containerd address. Reads only `stat` of other processes: that never blocks. */
async function shims(address: string): Promise<number[]> {
  const found: number[] = [];
  for (const name of await readdir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const stat = await readFile(`/proc/${name}/stat`, "utf8").catch(() => "");
    if (!stat.includes("(containerd-shim")) continue;
    const command = await readFile(`/proc/${name}/cmdline`, "utf8").catch(() => "");
    if (command.split("\0").includes(address)) found.push(Number(name));
  }
  return found;
}

function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended.
  }
}

async function killInits(folder: string): Promise<void> {
  const tasks = join(folder, "state", "io.containerd.runtime.v2.task");
  for (const namespace of await readdir(tasks).catch(() => [])) {
    for (const id of await readdir(join(tasks, namespace)).catch(() => [])) {
      const pid = Number(await readFile(join(tasks, namespace, id, "init.pid"), "utf8").catch(() => ""));
      if (pid > 1) signalProcess(pid, "SIGKILL");
    }
  }
}

async function unmountBelow(folder: string): Promise<void> {
  const mounts = (await readFile("/proc/self/mounts", "utf8"))
    .split("\n")
    .map((line) => line.split(" ")[1] ?? "")
    .filter((path) => path.startsWith(`${folder}/`))
    .reverse();
  for (const path of mounts) await runCommand("umount", ["-l", path]);
}

async function removeTasks(ctr: Containerd["ctr"]): Promise<void> {
  const namespaces = await ctr(["namespaces", "ls", "-q"], { allowFailure: true, timeoutMs: 20_000 });
  for (const namespace of namespaces.stdout.split("\n").filter(Boolean)) {
    const tasks = await ctr(["tasks", "ls", "-q"], { namespace, allowFailure: true, timeoutMs: 20_000 });
    for (const task of tasks.stdout.split("\n").filter(Boolean)) {
      await ctr(["tasks", "rm", "-f", task], { namespace, allowFailure: true, timeoutMs: 30_000 });
    }
  }
}

class OwnContainerd implements Containerd {
  readonly address: string;
  readonly folder: string;
  readonly namespace: string;
  readonly logPath: string;
  readonly #options: StartContainerdOptions;
  #child: ChildProcess | undefined;
  #stopped: Promise<void> | undefined;

  constructor(folder: string, options: StartContainerdOptions) {
    this.folder = folder;
    this.address = join(folder, "containerd.sock");
    this.namespace = `test-${createHash("sha256").update(folder).digest("hex").slice(0, 12)}`;
    this.logPath = join(folder, "containerd.log");
    this.#options = options;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  async start(): Promise<void> {
    const config = join(this.folder, "config.toml");
    await writeFile(config, configuration(this.folder, this.address, this.#options));
    const child = spawn(this.#options.binary ?? "containerd", ["--config", config, "--log-level", "info"], {
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    const log = createWriteStream(this.logPath, { flags: "a" });
    child.stdout?.pipe(log, { end: false });
    child.stderr?.pipe(log, { end: false });
    child.once("close", () => log.end());
    this.#child = child;
    try {
      await waitForSocket(this.address, { alive: () => child.exitCode === null && child.signalCode === null });
    } catch (error) {
      const text = await readFile(this.logPath, "utf8").catch(() => "");
      throw new Error(`containerd did not start:\n${text.slice(-4000)}`, { cause: error });
    }
  }

  async ctr(args: readonly string[], options: CtrOptions = {}): Promise<CommandResult> {
    const all = ["--address", this.address, "--namespace", options.namespace ?? this.namespace, ...args];
    const result = await runCommand(options.binary ?? "ctr", all, options);
    if (result.code !== 0 && options.allowFailure !== true) {
      throw new Error(`${options.binary ?? "ctr"} ${args.join(" ")} ended with ${result.code}:\n${result.stdout}\n${result.stderr}`);
    }
    return result;
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    const timer = setTimeout(() => child.kill("SIGKILL"), 30_000);
    child.kill(signal);
    await ended;
    clearTimeout(timer);
  }

  async restart(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    await this.#end(signal);
    await this.start();
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #stop(): Promise<void> {
    const child = this.#child;
    if (child !== undefined && child.exitCode === null && child.signalCode === null) {
      await removeTasks(this.ctr.bind(this)).catch(() => undefined);
    }
    await this.#end("SIGTERM");
    await killInits(this.folder);
    for (const pid of await shims(this.address)) signalProcess(pid, "SIGKILL");
    await unmountBelow(this.folder);
    await rm(join("/run/containerd/runc", this.namespace), { recursive: true, force: true });
    if (this.#options.folder === undefined) await rm(this.folder, { recursive: true, force: true, maxRetries: 5 });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}

/**
 * Starts a containerd with its own folders and sockets, without network and without plugins that are not needed.
 * Needs root and Debian's `containerd` and `runc`.
 */
export async function startContainerd(options: StartContainerdOptions = {}): Promise<Containerd> {
  const folder = options.folder ?? (await mkdtemp(join(tmpdir(), "estargz-ctd-")));
  await mkdir(folder, { recursive: true });
  await access(folder);
  const containerd = new OwnContainerd(folder, options);
  try {
    await containerd.start();
  } catch (error) {
    await containerd.stop();
    throw error;
  }
  return containerd;
}

import { type ChildProcess, spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Containerd, nodeFlags, runCommand, type StartContainerdOptions, startContainerd, waitForSocket } from "@estargz/testing";

const MAIN = fileURLToPath(new URL("../../../examples/snapshotter/src/main.ts", import.meta.url));

/** Options of {@link startNode}. */
export interface NodeOptions {
  /** TOML that is added to the configuration. */
  readonly config?: string;
  readonly containerd?: Omit<StartContainerdOptions, "snapshotters">;
  /** Default: no containerd. */
  readonly withContainerd?: boolean;
}

/** The snapshotter's binary as a process that can be killed and started again. */
export class DaemonProcess {
  readonly folder: string;
  readonly socket: string;
  readonly root: string;
  config: string;
  #child: ChildProcess | undefined;

  constructor(folder: string, config: string) {
    this.folder = folder;
    this.socket = join(folder, "sn.sock");
    this.root = join(folder, "sn");
    this.config = config;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  get running(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  async start(): Promise<void> {
    const config = join(this.folder, "config.toml");
    // `FOLDER` stands for the node's folder, which tests don't know before.
    this.config = this.config.replaceAll("FOLDER", this.folder);
    await writeFile(config, this.config);
    const args = [...nodeFlags, "--conditions=@estargz/source", MAIN, "--address", this.socket, "--root", this.root, "--config", config];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "ignore", "pipe"] });
    child.stderr?.pipe(createWriteStream(join(this.folder, "sn.log"), { flags: "a" }));
    this.#child = child;
    await waitForSocket(this.socket, { alive: () => this.running }).catch(async (error: unknown) => {
      throw new Error(`the snapshotter did not start: ${(await this.log()).slice(-3000)}`, { cause: error });
    });
  }

  log(): Promise<string> {
    return readFile(join(this.folder, "sn.log"), "utf8").catch(() => "");
  }

  /** Address of /metrics, from the log. */
  async metrics(): Promise<string> {
    const lines = (await this.log()).split("\n").filter((line) => line.includes('"serving snapshots"'));
    const { metrics } = JSON.parse(lines.at(-1) ?? "{}") as { metrics?: string };
    return await (await fetch(`http://${metrics}/metrics`)).text();
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (child === undefined || !this.running) return;
    const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    child.kill(signal);
    await ended;
  }
}

/** A registry-less node: a snapshotter and, if wanted, a containerd that uses it. */
export class TestNode {
  readonly folder: string;
  readonly daemon: DaemonProcess;
  #containerd: Containerd | undefined;

  constructor(folder: string, daemon: DaemonProcess) {
    this.folder = folder;
    this.daemon = daemon;
  }

  get containerd(): Containerd {
    if (this.#containerd === undefined) throw new Error("this node has no containerd");
    return this.#containerd;
  }

  async startContainerd(options: Omit<StartContainerdOptions, "snapshotters">): Promise<void> {
    this.#containerd = await startContainerd({ ...options, snapshotters: { estargz: this.daemon.socket } });
  }

  /** Ends the daemon with a signal, starts it again, and waits until containerd has connected to it again. */
  async restartDaemon(signal: NodeJS.Signals): Promise<void> {
    await this.daemon.end(signal);
    await this.daemon.start();
    await this.reached();
  }

  /** Waits until containerd has connected to the running daemon again: its client tries again in growing intervals. */
  async reached(): Promise<void> {
    await eventually("containerd reaches the new daemon", async () => {
      // A list is answered from containerd's own database: only a change gets through to the snapshotter.
      const { code } = await this.containerd.ctr(["snapshots", "--snapshotter=estargz", "prepare", "probe"], { allowFailure: true });
      return code === 0;
    });
    await this.containerd.ctr(["snapshots", "--snapshotter=estargz", "rm", "probe"]);
  }

  /** Pulls with the field's own client: lazily where the snapshotter can. */
  async pull(reference: string, args: readonly string[] = []): Promise<void> {
    await this.containerd.ctr(["images", "rpull", "--snapshotter=estargz", "--plain-http", ...args, reference], { binary: "ctr-remote" });
  }

  /** Runs a command in a new container and gives its standard output. */
  async run(reference: string, name: string, command: readonly string[] = []): Promise<string> {
    return (await this.containerd.ctr(["run", "--rm", "--snapshotter=estargz", reference, name, ...command])).stdout;
  }

  /** Ends everything and leaves nothing behind. */
  async stop(): Promise<void> {
    await this.#containerd?.stop();
    // A killed daemon's mounts live in the keeper: the next daemon takes them over and ends them in order.
    if (!this.daemon.running) await this.daemon.start().catch(() => undefined);
    await this.daemon.end("SIGTERM");
    for (const line of (await readFile("/proc/self/mounts", "utf8")).split("\n").toReversed()) {
      const path = line.split(" ")[1] ?? "";
      if (path.startsWith(`${this.folder}/`)) await runCommand("umount", ["-l", path]);
    }
    await rm(this.folder, { recursive: true, force: true, maxRetries: 10 });
  }
}

/** Starts a node. Its mounts end with it. */
export async function startNode(options: NodeOptions = {}): Promise<TestNode> {
  const folder = await mkdtemp(join(tmpdir(), "estargz-node-"));
  const config = [
    'metrics_address = "127.0.0.1:0"',
    ...(options.config?.includes("docker_keychain") === true ? [] : ["docker_keychain.enable_keychain = false"]),
    'resolver.config_path = ""',
    "snapshotter.unmount_on_exit = true",
    options.config ?? "",
  ];
  const daemon = new DaemonProcess(folder, config.join("\n"));
  const node = new TestNode(folder, daemon);
  try {
    await daemon.start();
    if (options.withContainerd === true) await node.startContainerd(options.containerd ?? {});
  } catch (error) {
    await node.stop();
    throw error;
  }
  return node;
}

/** Waits until `condition` gives a value that is not undefined or false. */
export async function eventually<T>(what: string, condition: () => Promise<T | undefined | false>, timeoutMs = 120_000): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const value = await condition();
    if (value !== undefined && value !== false) return value;
    if (Date.now() > deadline) throw new Error(`${what}: did not happen within ${timeoutMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

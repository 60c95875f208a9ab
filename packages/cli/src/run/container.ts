import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile, realpath, rm, writeFile } from "node:fs/promises";
import { constants } from "node:os";
import { join } from "node:path";
import { runInForeground, runQuietly } from "./child.ts";
import { resolveUser } from "./container-user.ts";
import type { ImageConfig } from "./image-config.ts";
import { mountOverlay } from "./overlay.ts";
import { type Bind, createRuntimeSpec } from "./runtime-spec.ts";

/** What the caller of {@link runContainer} may choose. */
export interface ContainerOptions {
  readonly command?: readonly string[] | undefined;
  readonly entrypoint?: readonly string[] | undefined;
  readonly environment?: readonly string[] | undefined;
  readonly workingDirectory?: string | undefined;
  readonly user?: string | undefined;
  /** Default `host`. */
  readonly network?: "host" | "none" | undefined;
  readonly binds?: readonly Bind[] | undefined;
  /** Nothing can be written to the root file system. Default false. */
  readonly readOnly?: boolean | undefined;
  /** Gives the container a terminal. Default: whether this process has one. */
  readonly terminal?: boolean | undefined;
  /** The OCI runtime. Default `runc`. */
  readonly runtime?: string | undefined;
  /** Ends the container: politely at first, after `stopTimeoutMs` for good. */
  readonly signal?: AbortSignal | undefined;
  /** Default 5,000. */
  readonly stopTimeoutMs?: number | undefined;
}

/** Files of the host that a container with the host's network needs too. */
function networkBinds(network: "host" | "none"): Bind[] {
  if (network !== "host") return [];
  return ["/etc/resolv.conf", "/etc/hosts"]
    .filter((path) => existsSync(path))
    .map((path) => ({ source: path, destination: path, readOnly: true }));
}

async function readInside(root: string, path: string): Promise<string | undefined> {
  try {
    const file = await realpath(join(root, path));
    // A link of the image must not lead to the host's file.
    if (!file.startsWith(`${await realpath(root)}/`)) return undefined;
    return await readFile(file, "utf8");
  } catch {
    return undefined;
  }
}

/**
 * Runs a container on layer directories until its first process ends: overlayfs puts them together, runc does the rest.
 * Everything it makes is below `folder` and gone afterwards.
 *
 * @param layers - Directories of the layers, the lowest first.
 * @param folder - An own, short folder that is not on an overlay.
 * @returns The exit code of the container's first process.
 */
export async function runContainer(
  layers: readonly string[],
  config: ImageConfig,
  folder: string,
  options: ContainerOptions = {},
): Promise<number> {
  const { runtime = "runc", network = "host" } = options;
  const id = `estargz-${randomBytes(6).toString("hex")}`;
  const bundle = join(folder, id);
  const rootPath = join(bundle, "rootfs");
  await mkdir(bundle, { recursive: true, mode: 0o700 });
  const overlay = await mountOverlay({ lower: layers, target: rootPath, scratch: bundle });
  const state = ["--root", join(folder, "runc")];
  try {
    const spec = createRuntimeSpec(config, {
      rootPath,
      user: await resolveUser(options.user ?? config.user, (path) => readInside(rootPath, path)),
      command: options.command,
      entrypoint: options.entrypoint,
      environment: options.environment,
      workingDirectory: options.workingDirectory,
      hostname: id,
      terminal: options.terminal ?? (process.stdin.isTTY === true && process.stdout.isTTY === true),
      network,
      binds: [...networkBinds(network), ...(options.binds ?? [])],
      readOnly: options.readOnly ?? false,
    });
    await writeFile(join(bundle, "config.json"), JSON.stringify(spec));
    options.signal?.throwIfAborted();
    const signals = new Map<string, number>(Object.entries(constants.signals));
    const kill = (): void => void runQuietly(runtime, [...state, "kill", id, "KILL"]).catch(() => undefined);
    const stop = { signal: options.signal, timeoutMs: options.stopTimeoutMs ?? 5000, kill };
    return await runInForeground(runtime, [...state, "run", "--bundle", bundle, id], signals, stop);
  } finally {
    await runQuietly(runtime, [...state, "delete", "--force", id]).catch(() => undefined);
    await overlay.unmount();
    await rm(bundle, { recursive: true, force: true, maxRetries: 5 });
  }
}

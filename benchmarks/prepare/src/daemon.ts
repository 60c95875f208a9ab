import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { nodeFlags, waitForSocket } from "@estargz/testing";

const MAIN = fileURLToPath(new URL("../../../examples/snapshotter/src/main.ts", import.meta.url));
const CONFIG = `docker_keychain.enable_keychain = false
resolver.config_path = ""
fill.background = "off"
snapshotter.unmount_on_exit = true
fuse.keeper = false
`;

/** The snapshotter's binary in a process of its own. */
export async function startDaemon(): Promise<{ readonly address: string; close(): Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), "estargz-prepare-"));
  const address = join(folder, "sn.sock");
  const config = join(folder, "config.toml");
  await writeFile(config, CONFIG);
  const args = [
    ...nodeFlags,
    "--conditions=@estargz/source",
    MAIN,
    "--address",
    address,
    "--root",
    join(folder, "root"),
    "--config",
    config,
  ];
  const child = spawn(process.execPath, [...args, "--log-level", "error"], { stdio: ["ignore", "ignore", "inherit"] });
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const close = async (): Promise<void> => {
    child.kill("SIGTERM");
    await ended;
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await waitForSocket(address, { alive: () => child.exitCode === null });
  } catch (error) {
    await close();
    throw error;
  }
  return { address, close };
}

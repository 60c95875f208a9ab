import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { nodeFlags } from "@estargz/testing";
import { afterEach, beforeEach, expect, test } from "vitest";
import { connectSnapshotter } from "../src/index.ts";

const MAIN = fileURLToPath(new URL("../../../examples/snapshotter/src/main.ts", import.meta.url));
const ACTIVATE = "/usr/bin/systemd-socket-activate";
const DIGEST = `sha256:${"a".repeat(64)}`;
const LABELS = {
  "containerd.io/snapshot.ref": "chain",
  "containerd.io/snapshot/cri.image-ref": "127.0.0.1:1/app:1",
  "containerd.io/snapshot/cri.layer-digest": DIGEST,
  "containerd.io/snapshot/stargz/toc.digest": DIGEST,
};

let folder: string;
let collector: Server;
let child: ChildProcess | undefined;
const bodies: string[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "estargz-activation-"));
  collector = createServer((request, response) => {
    let body = "";
    request.setEncoding("utf8").on("data", (text: string) => (body += text));
    request.on("end", () => {
      bodies.push(`${request.method} ${request.url} ${body}`);
      response.setHeader("content-type", "application/json").end("{}");
    });
  });
  await new Promise<void>((resolve) => collector.listen(0, "127.0.0.1", resolve));
});

afterEach(async () => {
  if (child?.exitCode === null && child.signalCode === null) {
    child.kill("SIGTERM");
    await once(child, "exit");
  }
  collector.close();
  collector.closeAllConnections();
  await rm(folder, { recursive: true });
});

test.skipIf(!existsSync(ACTIVATE))(
  `a socket that is held for it (needs ${ACTIVATE}): the call that starts it is answered, and spans are sent`,
  async () => {
    const socket = join(folder, "sn.sock");
    const config = join(folder, "config.toml");
    await writeFile(
      config,
      `fuse.keeper = false
snapshotter.unmount_on_exit = true
docker_keychain.enable_keychain = false
resolver = { config_path = "", request_timeout_sec = 2 }
tracing.endpoint = "http://127.0.0.1:${(collector.address() as AddressInfo).port}/"
`,
    );
    const program = [process.execPath, ...nodeFlags, "--conditions=@estargz/source", MAIN];
    const args = ["--address", socket, "--root", join(folder, "root"), "--config", config];
    child = spawn(ACTIVATE, ["--listen", socket, ...program, ...args], { stdio: ["ignore", "ignore", "pipe"] });
    let log = "";
    child.stderr?.setEncoding("utf8").on("data", (text: string) => (log += text));
    await expect.poll(() => existsSync(socket), { timeout: 60_000 }).toBe(true);
    const client = connectSnapshotter({ address: socket });
    const mounts = await client.prepare({ key: "key", parent: "", labels: LABELS });
    expect(mounts.map(({ type }) => type)).toEqual(["bind"]);
    await client.close();
    child.kill("SIGTERM");
    const [code] = (await once(child, "exit")) as [number | null];
    expect({ code, log: code === 0 ? "" : log }).toEqual({ code: 0, log: "" });
    // It belongs to whoever gave it.
    expect(existsSync(socket)).toBe(true);
    const spans = bodies.join("\n");
    expect(spans).toContain("POST /v1/traces");
    expect(spans).toContain('"name":"prepare"');
    expect(spans).toContain('"name":"open"');
    expect(spans).toContain('"estargz.fallback.code"');
    expect(spans).toContain('"stringValue":"estargz-snapshotter"');
  },
);

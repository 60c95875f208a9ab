import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type FakeRegistry, runCommand, startFakeRegistry } from "@estargz/testing";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { estargz, type Running, startEstargz } from "./command-line.ts";
import { makeShellImage, message } from "./shell-image.ts";

let folder: string;
let registry: FakeRegistry;
let image: string;
const running = new Set<Running>();

function start(args: readonly string[]): Running {
  const command = startEstargz(args);
  running.add(command);
  return command;
}

/** Mounts below the test's folder: none may be left. */
async function mounts(): Promise<string[]> {
  return (await readFile("/proc/self/mounts", "utf8")).split("\n").filter((line) => line.includes(folder));
}

async function firstLine(command: Running): Promise<string> {
  for (;;) {
    if (command.stdout().includes("\n")) return command.stdout().split("\n")[0] ?? "";
    const ended = await Promise.race([command.ended, new Promise<undefined>((resolve) => setTimeout(resolve, 20))]);
    if (ended !== undefined && !ended.stdout.includes("\n")) throw new Error(`it ended with ${ended.code}: ${ended.stderr}`);
  }
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "er-"));
  registry = await startFakeRegistry();
  await makeShellImage(join(folder, "plain"));
  image = `${registry.address}/cli/run:1`;
  expect((await estargz(["convert", `oci:${join(folder, "plain")}:latest`, image, "--chunk-size", "16k"])).code).toBe(0);
});

afterEach(async () => {
  for (const { child, ended } of running) {
    if (child.exitCode === null && child.signalCode === null) child.kill("SIGTERM");
    await ended;
  }
  running.clear();
  registry.clear();
  expect(await mounts()).toEqual([]);
});

afterAll(async () => {
  await registry?.close();
  for (const line of await mounts()) await runCommand("umount", ["-l", line.split(" ")[1] ?? ""]);
  await rm(folder, { recursive: true, force: true });
});

describe("estargz run", () => {
  const root = (): string => join(folder, "s");
  const shell = (script: string): string[] => ["/bin/sh", "-c", script];

  test("runs the image's command, fetching what it reads; again without network", async () => {
    const first = await estargz(["run", "--root", root(), "--background", "off", image]);
    expect(first).toEqual({ code: 0, stdout: message, stderr: "" });
    expect(registry.requests.some(({ headers }) => headers.range !== undefined)).toBe(true);
    expect(await readdir(root())).toEqual(["layers"]);
    registry.clear();
    expect((await estargz(["run", "--root", root(), "--background", "off", image])).stdout).toBe(message);
    // The manifest and the small configuration are asked for; nothing of what the first run has fetched is.
    expect(registry.requests.filter(({ bytesSent }) => bytesSent > 2000)).toEqual([]);
  });

  test("gives its program's exit code, arguments, environment, folder and user", async () => {
    expect((await estargz(["run", "--root", root(), image, ...shell("exit 7")])).code).toBe(7);
    const script =
      'echo "$GREETING $OTHER $PWD"; cd /tmp; while read -r k v _; do case $k in Uid:|Gid:) echo "$k $v";; esac; done < /proc/self/status';
    const { stdout } = await estargz(["run", "--root", root(), "-e", "OTHER=there", "-w", "/etc", "-u", "app", image, ...shell(script)]);
    expect(stdout).toBe("hello there /etc\nUid: 1000\nGid: 1001\n");
    const entry = await estargz(["run", "--root", root(), "--entrypoint", "/bin/sh", image, "-c", "echo entry"]);
    expect(entry.stdout).toBe("entry\n");
  });

  test("lets the container write, and forgets it; not with --read-only", async () => {
    const script = "echo new > /srv/message; echo more > /srv/new; read -r l < /srv/message; echo $l";
    expect((await estargz(["run", "--root", root(), image, ...shell(script)])).stdout).toBe("new\n");
    expect((await estargz(["run", "--root", root(), image])).stdout).toBe(message);
    expect((await estargz(["run", "--root", root(), "--read-only", image, ...shell("echo x > /srv/x")])).code).not.toBe(0);
  });

  test("shows folders of the host, and a network of its own when asked to", async () => {
    const shared = join(folder, "shared");
    await runCommand("mkdir", ["-p", shared]);
    await writeFile(join(shared, "in"), "from the host\n");
    const script =
      "read -r l < /mnt/in; echo $l > /mnt/out; while read -r name _; do case $name in *:) echo $name;; esac; done < /proc/net/dev";
    const { stdout } = await estargz(["run", "--root", root(), "--network", "none", "-v", `${shared}:/mnt`, image, ...shell(script)]);
    expect(stdout).toBe("lo:\n");
    expect(await readFile(join(shared, "out"), "utf8")).toBe("from the host\n");
  });

  test("two at once work, each with its own files", async () => {
    const waiting = start(["run", "--root", root(), image, ...shell("echo up; while :; do :; done")]);
    expect(await firstLine(waiting)).toBe("up");
    expect((await estargz(["run", "--root", root(), image])).stdout).toBe(message);
  });

  test.each(["SIGTERM", "SIGINT"] as const)("ends its container on %s and takes everything away", async (signal) => {
    const command = start(["run", "--root", root(), image, ...shell("echo up; while :; do :; done")]);
    expect(await firstLine(command)).toBe("up");
    command.child.kill(signal);
    expect((await command.ended).code).not.toBe(0);
    expect(await mounts()).toEqual([]);
    expect(await readdir(root())).toEqual(["layers"]);
  });

  test("says what is missing when there is no runtime", async () => {
    const { code, stderr } = await estargz(["run", "--root", root(), "--runtime", "no-such-runtime", image]);
    expect(code).toBe(1);
    expect(stderr).toBe("estargz: no-such-runtime is not installed: install it first\n");
  });
});

describe("estargz optimize", () => {
  const optimized = (): string => `${registry.address}/cli/run:optimized`;

  test("records a start; a run of the result fetches that ahead and reads the same", async () => {
    const first = await estargz(["optimize", image, optimized()]);
    expect(first).toMatchObject({ code: 0, stderr: expect.stringMatching(/^estargz: \d+ chunks of 2 layers are read by a start\n$/) });
    expect(first.stdout).toContain(message);
    const layers = async (name: string): Promise<string[]> =>
      JSON.parse((await estargz(["inspect", name, "--json"])).stdout).layers.map((layer: { digest: string }) => layer.digest);
    expect(await layers(optimized())).toEqual(await layers(image));
    const args = ["run", "--root", join(folder, "o"), "--background", "off", optimized()];
    expect(await estargz(args)).toEqual({ code: 0, stdout: message, stderr: "" });
  });

  test("ends what runs for ever after its period", async () => {
    const args = ["optimize", "--period", "1", image, optimized(), "/bin/sh", "-c", "echo up; while :; do :; done"];
    const { code, stdout } = await estargz(args);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^up\n.*:optimized@sha256:/);
  });

  test("takes no failing start for an example", async () => {
    const { code, stderr } = await estargz(["optimize", image, `${registry.address}/cli/run:failed`, "/bin/sh", "-c", "exit 3"]);
    expect(code).toBe(1);
    expect(stderr).toBe("estargz: the container ended with 3: its start is no example for others\n");
    expect((await estargz(["inspect", `${registry.address}/cli/run:failed`])).code).toBe(1);
  });
});

describe("estargz mount", () => {
  test("shows the image's tree until it is told to end", async () => {
    const target = join(folder, "tree");
    const command = start(["mount", "--root", join(folder, "m"), image, target]);
    expect(await firstLine(command)).toBe(target);
    // In a process of their own: a read of a mount that hangs must not hang the test.
    const script = "cat srv/link; ls srv; stat -c '%a %u:%g %h' srv/message; cat srv/data | wc -c";
    const seen = await runCommand("sh", ["-c", `cd ${target} && ${script}`]);
    expect(seen.stdout).toBe(`${message}again\ndata\nlink\nmessage\n640 1000:1001 2\n131072\n`);
    expect((await runCommand("sh", ["-c", `echo x > ${target}/srv/x`])).code).not.toBe(0);
    command.child.kill("SIGINT");
    expect((await command.ended).code).toBe(0);
    expect(existsSync(join(target, "srv"))).toBe(false);
  });

  test("can be written to, without changing the image", async () => {
    const target = join(folder, "writable");
    const command = start(["mount", "--writable", "--root", join(folder, "m"), image, target]);
    await firstLine(command);
    const seen = await runCommand("sh", ["-c", `cd ${target}/srv && echo changed > message && rm data && cat message && ls`]);
    expect(seen.stdout).toBe("changed\nagain\nlink\nmessage\n");
    command.child.kill("SIGTERM");
    expect((await command.ended).code).toBe(0);
  });
});

import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type DockerRegistry, type FakeRegistry, runCommand, startDockerRegistry, startFakeRegistry } from "@estargz/testing";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { estargz } from "./command-line.ts";
import { makeShellImage, message } from "./shell-image.ts";

let folder: string;
let registry: DockerRegistry;
let plain: string;
let lazy: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "estargz-cli-"));
  registry = await startDockerRegistry();
  await makeShellImage(join(folder, "plain"));
  plain = `oci:${join(folder, "plain")}:latest`;
  lazy = `${registry.address}/cli/lazy:1`;
  const converted = await estargz(["convert", plain, lazy, "--chunk-size", "16k", "--json"]);
  expect(converted).toMatchObject({ code: 0, stderr: "" });
});

afterAll(async () => {
  await registry?.close();
  await rm(folder, { recursive: true, force: true });
});

test("the version is told, and nothing is said on standard error", async () => {
  const { version } = JSON.parse(await readFile(new URL("../package.json", import.meta.url), "utf8"));
  expect(await estargz(["--version"])).toMatchObject({ code: 0, stdout: `${version}\n`, stderr: "" });
});

describe("an image in a real registry", () => {
  test("is inspected", async () => {
    const { code, stdout } = await estargz(["inspect", lazy]);
    expect(code).toBe(0);
    expect(stdout).toContain("2 of 2 can be read lazily and are verified");
    const json = JSON.parse((await estargz(["inspect", lazy, "--json"])).stdout);
    expect(json.layers.map((layer: { format: string }) => layer.format)).toEqual(["estargz", "estargz"]);
    const other = JSON.parse((await estargz(["inspect", plain, "--json"])).stdout);
    expect(other.layers.map((layer: { format: string }) => layer.format)).toEqual(["not lazy", "not lazy"]);
  });

  test("is listed as one tree", async () => {
    expect((await estargz(["ls", lazy, "/srv"])).stdout).toBe("again\ndata\nlink\nmessage\n");
    const long = (await estargz(["ls", "-l", lazy, "srv"])).stdout.split("\n");
    expect(long.find((line) => line.endsWith("  message"))).toMatch(/^-rw-r----- {2}2 {2}1000:1001 +21 /);
    expect(long.find((line) => line.includes("link"))).toMatch(/^lrwxrwxrwx .* link -> message$/);
    expect((await estargz(["ls", "-R", lazy])).stdout).toContain("srv/data\n");
    const json = JSON.parse((await estargz(["ls", "--json", lazy, "/srv/data"])).stdout);
    expect(json[0]).toMatchObject({ path: "/srv/data", type: "reg", size: 131_072 });
  });

  test("gives single files, through symlinks too", async () => {
    expect(await estargz(["cat", lazy, "/srv/link", "srv/again"])).toEqual({ code: 0, stdout: message + message, stderr: "" });
  });

  test("is verified, and copied without a change", async () => {
    const verified = await estargz(["verify", lazy]);
    expect(verified.code).toBe(0);
    expect(verified.stdout.match(/^ok /gm)).toHaveLength(2);
    const copied = await estargz(["copy", lazy, `oci:${join(folder, "copy")}:1`]);
    expect(copied.code).toBe(0);
    const digest = /sha256:[0-9a-f]{64}/.exec(copied.stdout)?.[0];
    expect((await estargz(["inspect", lazy])).stdout).toContain(`manifest   ${digest}`);
  });

  test("comes out of an archive as well", async () => {
    const archive = join(folder, "image.tar");
    await runCommand("tar", ["-C", join(folder, "plain"), "-cf", archive, "."]);
    const { code, stdout } = await estargz(["convert", `oci-archive:${archive}`, `oci:${join(folder, "from-archive")}:1`]);
    expect(code).toBe(0);
    expect(stdout).toContain("2 layers");
    expect((await estargz(["cat", `oci:${join(folder, "from-archive")}:1`, "/srv/message"])).stdout).toBe(message);
  });

  test("is converted in every format, with files in front", async () => {
    const record = join(folder, "record");
    await writeFile(record, "# what a start reads\n/srv/message\n/no/such/file\n");
    const gzip = await estargz(["convert", plain, `${registry.address}/cli/front:1`, "--prioritize", record, "--level", "1"]);
    expect(gzip).toMatchObject({ code: 0, stderr: "estargz: no layer has /no/such/file: it is left out of the order\n" });
    const json = JSON.parse((await estargz(["inspect", `${registry.address}/cli/front:1`, "--json"])).stdout);
    expect(json.layers[1].prefetchBytes).toBeGreaterThan(0);
    const zstd = await estargz(["convert", plain, `${registry.address}/cli/zstd:1`, "--zstd"]);
    expect(zstd.code).toBe(0);
    expect((await estargz(["cat", `${registry.address}/cli/zstd:1`, "/srv/message"])).stdout).toBe(message);
    const external = await estargz(["convert", plain, `${registry.address}/cli/external:1`, "--external-toc", "--lossless"]);
    expect(external.stdout).toContain("the TOCs are in the image with tag 1-esgztoc");
    expect((await estargz(["cat", `${registry.address}/cli/external:1`, "/srv/message"])).stdout).toBe(message);
  });

  test("is looked at by the doctor", async () => {
    const good = await estargz(["doctor", lazy, "--no-node"]);
    expect(good.code).toBe(0);
    expect(good.stdout).toContain("will be lazy: 2 of 2 layers");
    const bad = await estargz(["doctor", plain, "--no-node", "--json"]);
    expect(bad.code).toBe(1);
    expect(JSON.parse(bad.stdout)).toMatchObject({ lazy: "no", layers: 2, lazyLayers: 0 });
  });
});

describe("one line says what is wrong and what to do", () => {
  const oneLine = /^estargz: [^\n]+\n$/;

  async function failure(args: readonly string[], env?: NodeJS.ProcessEnv): Promise<string> {
    const { code, stdout, stderr } = await estargz(args, env);
    expect({ code, stdout, stderr }).toEqual({ code: 1, stdout: "", stderr: expect.stringMatching(oneLine) });
    expect(stderr).not.toMatch(/\bat .*\.[jt]s:\d/);
    return stderr;
  }

  test("unknown images", async () => {
    expect(await failure(["ls", `${registry.address}/no/such:1`])).toContain("check the image's name and tag");
    expect(await failure(["ls", `${registry.address}/cli/lazy:2`])).toContain("check the image's name and tag");
    expect(await failure(["run", `oci:${join(folder, "nowhere")}`])).toContain("nowhere");
    expect(await failure(["cat", lazy, "/no/such/file"])).toBe(
      'estargz: the image has no "/no/such/file": see what it has with estargz ls\n',
    );
  });

  test("no network", async () => {
    // Nobody listens on port 1, and nobody has this name.
    expect(await failure(["ls", "127.0.0.1:1/app"])).toMatch(/127\.0\.0\.1:1.*check the network/);
    expect(await failure(["inspect", "no-such-host.invalid/app"])).toMatch(/no-such-host\.invalid.*check the network/);
  });

  test("not an eStargz image", async () => {
    for (const command of ["ls", "run", "verify"]) {
      const text = await failure([command, plain]);
      expect(text).toMatch(/convert it first: estargz convert/);
    }
  });

  test("malformed names and options", async () => {
    expect(await failure(["ls", "host.example/UPPER"])).toContain("must be lower case");
    expect(await failure(["convert", plain, lazy, "--chunk-size", "much"])).toContain("a size is a number of bytes");
    expect(await failure(["convert", plain, lazy, "--level", "12"])).toContain("level 12 must be a whole number from 0 to 9");
    expect(await failure(["convert", plain, lazy, "--prioritize", join(folder, "missing")])).toContain("no such file");
    expect(await failure(["ls", lazy, "--platform", "linux"])).toContain("os/architecture");
    expect(await failure(["frobnicate"])).toContain("unknown command");
    expect(await failure(["cat", lazy, "/srv"])).toContain("list it with estargz ls");
    expect(await failure(["mount", lazy, "/etc/passwd"])).toContain("/etc/passwd is not a folder");
  });

  test("bad credentials", async () => {
    // user:secret, bcrypt
    const htpasswd = "user:$2y$05$IpzkvM8tL86MuHDDCMJ/vevwdIcnDnmPnQyuh9OzvXDUmTTHTZqo2\n";
    const closed = await startDockerRegistry({ htpasswd });
    try {
      const name = `${closed.address}/app:1`;
      expect(await failure(["ls", name])).toContain("log in first");
      const docker = join(folder, "docker");
      await rm(docker, { recursive: true, force: true });
      await runCommand("mkdir", ["-p", docker]);
      const auth = Buffer.from("user:wrong").toString("base64");
      await writeFile(join(docker, "config.json"), JSON.stringify({ auths: { [closed.address]: { auth } } }));
      const text = await failure(["convert", plain, name], { DOCKER_CONFIG: docker });
      expect(text).toContain("log in first");
      expect(text).not.toContain("wrong");
    } finally {
      await closed.close();
    }
  });

  test("help is no error", async () => {
    const { code, stdout } = await estargz(["--help"]);
    expect(code).toBe(0);
    for (const name of ["convert", "copy", "inspect", "ls", "cat", "verify", "mount", "run", "optimize", "doctor"])
      expect(stdout).toContain(`  ${name}`);
  });
});

describe("a registry that gives wrong bytes", () => {
  let fake: FakeRegistry;
  let name: string;

  beforeAll(async () => {
    fake = await startFakeRegistry();
    name = `${fake.address}/cli/damaged:1`;
    expect((await estargz(["convert", plain, name, "--chunk-size", "16k"])).code).toBe(0);
  });
  afterAll(() => fake?.close());

  test("is caught: nothing wrong is printed", async () => {
    fake.inject({ wrongBytes: true, times: Number.POSITIVE_INFINITY });
    const { code, stdout, stderr } = await estargz(["cat", name, "/srv/data"]);
    expect(code).toBe(1);
    expect(stdout).toBe("");
    expect(stderr).toMatch(/^estargz: [^\n]+\n$/);
    fake.clear();
    expect((await estargz(["cat", name, "/srv/data"])).stdout).toBe("0123456789abcdef".repeat(8192));
  });

  test("fails a verification of the stored layer", async () => {
    const copy = join(folder, "damaged");
    expect((await estargz(["copy", name, `oci:${copy}:1`])).code).toBe(0);
    const { layers } = JSON.parse((await estargz(["inspect", `oci:${copy}:1`, "--json"])).stdout);
    const blob = join(copy, "blobs", ...(layers[1].digest as string).split(":"));
    const bytes = await readFile(blob);
    // A byte of the first chunk's compressed data, not of its header.
    bytes[Math.floor(bytes.length / 8)] = (bytes[Math.floor(bytes.length / 8)] ?? 0) ^ 0x55;
    await writeFile(blob, bytes);
    const { code, stdout, stderr } = await estargz(["verify", `oci:${copy}:1`]);
    expect(code).toBe(1);
    expect(stdout).toMatch(/^ok .*\nWRONG sha256:/);
    expect(stderr).toBe("estargz: 1 of 2 layers are not what the image says\n");
  });
});

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Containerd, type DockerRegistry, startContainerd, startDockerRegistry } from "@estargz/testing";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { estargz } from "./command-line.ts";
import { makeShellImage, message } from "./shell-image.ts";

let folder: string;
let registry: DockerRegistry;
let containerd: Containerd;

/** Runs the field's client against this test's containerd. */
async function ctr(...args: string[]): Promise<string> {
  return (await containerd.ctr(args, { binary: "ctr-remote" })).stdout;
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "ef-"));
  registry = await startDockerRegistry();
  containerd = await startContainerd({ folder: join(folder, "c") });
  await makeShellImage(join(folder, "plain"));
  expect((await estargz(["copy", `oci:${join(folder, "plain")}:latest`, `${registry.address}/field/plain:1`])).code).toBe(0);
});

afterAll(async () => {
  await containerd?.stop();
  await registry?.close();
  await rm(folder, { recursive: true, force: true });
});

describe("images converted by ctr-remote", () => {
  test.each([
    ["estargz", ["--estargz", "--estargz-chunk-size", "16384"], "estargz"],
    ["zstd:chunked", ["--zstdchunked"], "zstd:chunked"],
  ])("%s: are read, verified and run by us", async (_name, options, format) => {
    const plain = `${registry.address}/field/plain:1`;
    const theirs = `${registry.address}/field/theirs-${format.replace(":", "-")}:1`;
    await ctr("images", "pull", "--plain-http", plain);
    await ctr("images", "convert", "--oci", ...options, plain, theirs);
    await ctr("images", "push", "--plain-http", theirs);

    const inspected = JSON.parse((await estargz(["inspect", theirs, "--json"])).stdout);
    expect(inspected.layers.map((layer: { format: string; verified: boolean }) => [layer.format, layer.verified])).toEqual([
      [format, true],
      [format, true],
    ]);
    expect((await estargz(["cat", theirs, "/srv/link"])).stdout).toBe(message);
    expect((await estargz(["ls", theirs, "/srv"])).stdout).toBe("again\ndata\nlink\nmessage\n");
    expect(await estargz(["verify", theirs])).toMatchObject({ code: 0, stderr: "" });
    expect(await estargz(["run", "--root", join(folder, "s"), theirs])).toEqual({ code: 0, stdout: message, stderr: "" });
  });
});

describe("images converted by us", () => {
  test.each([
    ["estargz", []],
    ["with small chunks and files in front", ["--chunk-size", "4k", "--prioritize", "record"]],
    ["zstd:chunked", ["--zstd"]],
    ["external toc", ["--external-toc"]],
  ])("%s: are ordinary images for containerd's overlayfs", async (name, options) => {
    const ours = `${registry.address}/field/ours-${name.replace(/[^a-z]+/g, "-")}:1`;
    const record = join(folder, "record");
    await writeFile(record, "bin/sh\nsrv/message\n");
    const args = options.map((option) => (option === "record" ? record : option));
    expect((await estargz(["convert", `${registry.address}/field/plain:1`, ours, ...args])).code).toBe(0);
    await ctr("images", "pull", "--plain-http", "--snapshotter", "overlayfs", ours);
    expect(await ctr("run", "--rm", "--snapshotter", "overlayfs", ours, "field")).toBe(message);
    expect(await estargz(["run", "--root", join(folder, "s"), ours])).toEqual({ code: 0, stdout: message, stderr: "" });
    // What the whiteout took away is gone, hard links are links, owners stay.
    const script = "set -- /srv/*; echo $*; exec 3< /srv/message; read -r line <&3; echo $line";
    const seen = await ctr("run", "--rm", "--snapshotter", "overlayfs", ours, "field", "/bin/sh", "-c", script);
    expect(seen).toContain("/srv/again /srv/data /srv/link /srv/message");
  });

  test("have TOC digests that ctr-remote finds too", async () => {
    const ours = `${registry.address}/field/ours-estargz:1`;
    const { layers } = JSON.parse((await estargz(["inspect", ours, "--json"])).stdout);
    for (const { digest, tocDigest } of layers) {
      expect((await ctr("images", "get-toc-digest", digest)).trim()).toBe(tocDigest);
    }
  });
});

import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, describe, expect, it } from "vitest";
import { type MountedLayers, mountLayers } from "../src/index.ts";
import { randomBytes } from "./content.ts";
import { makeLayer, type TestEntry } from "./memory-layer.ts";
import { TestSource, until } from "./test-source.ts";

const run = promisify(execFile);
const mounted: MountedLayers[] = [];

afterEach(async () => {
  await Promise.all(mounted.splice(0).map((layers) => layers.close()));
});

const files: TestEntry[] = [
  { path: "bin/tool", content: randomBytes(1, 6 * 1024 * 1024), mode: 0o755 },
  { path: "etc/conf", content: "key = value\n" },
  { path: "etc/link", type: "symlink", link: "conf" },
  { path: "var/data", content: randomBytes(2, 700_000) },
];

async function sha256sum(directory: string): Promise<Map<string, string>> {
  const { stdout } = await run("find", [directory, "-type", "f", "-exec", "sha256sum", "{}", "+"]);
  return new Map(
    stdout
      .trim()
      .split("\n")
      .map((line): [string, string] => [line.slice(66 + directory.length + 1), line.slice(0, 64)]),
  );
}

describe.each(["dev-fuse", "fuse-native"] as const)("mountLayers with %s", (driver) => {
  it("shows every file byte by byte, and leaves nothing behind", async () => {
    const source = new TestSource();
    const { layer, blob, digest } = makeLayer(files, { chunkSize: 100_000 });
    const layers = await mountLayers({ source, driver, layers: [{ locations: [source.add(digest, blob)], tocDigest: layer.tocDigest }] });
    mounted.push(layers);
    const path = layers.layers[0]?.path ?? "";
    const sums = await sha256sum(path);
    const expected = files.filter((file) => file.content !== undefined);
    for (const file of expected)
      expect(sums.get(file.path)).toBe(
        createHash("sha256")
          .update(file.content ?? "")
          .digest("hex"),
      );
    expect((await stat(join(path, "bin/tool"))).mode & 0o7777).toBe(0o755);
    await layers.close();
    expect(await readFile("/proc/self/mountinfo", "utf8")).not.toContain(path);
  });

  it("answers EIO for damaged bytes and lives on", async () => {
    const source = new TestSource();
    const { layer, blob, digest } = makeLayer(files, { chunkSize: 100_000 });
    const chunk = layer.lookup("var/data")?.chunks[3];
    const at = (chunk?.blobOffset ?? 0) + 20;
    source.corrupt = (request, bytes) => {
      if (request.offset <= at && at < request.offset + request.length) bytes[at - request.offset] = (bytes[at - request.offset] ?? 0) ^ 1;
    };
    const layers = await mountLayers({
      source,
      driver,
      background: "off",
      layers: [{ locations: [source.add(digest, blob)], tocDigest: layer.tocDigest }],
    });
    mounted.push(layers);
    const path = layers.layers[0]?.path ?? "";
    await expect(readFile(join(path, "var/data"))).rejects.toMatchObject({ code: "EIO" });
    expect(await readFile(join(path, "etc/conf"), "utf8")).toBe("key = value\n");
    source.corrupt = undefined;
    expect(await readFile(join(path, "var/data"))).toEqual(files[3]?.content);
  });

  it("tells the local share in the state directory", async () => {
    const source = new TestSource();
    const { layer, blob, digest } = makeLayer(files, { chunkSize: 100_000 });
    const layers = await mountLayers({
      source,
      driver,
      background: "off",
      layers: [{ locations: [source.add(digest, blob)], tocDigest: layer.tocDigest }],
    });
    mounted.push(layers);
    const path = layers.layers[0]?.path ?? "";
    const name = join(path, ".stargz-snapshotter", `${digest}.json`);
    const before = JSON.parse(await readFile(name, "utf8")) as { fetchedSize: number };
    expect(before).toMatchObject({ digest, size: blob.length, fetchedSize: 0, fetchedPercent: 0 });
    await layers.fileSystem.check("mount-0");
    for (const file of files) if (file.content !== undefined) await readFile(join(path, file.path));
    // fuse-native cannot tell the kernel to forget the pages: there the file stays as it was first read.
    const wanted = driver === "dev-fuse" ? 100 : 0;
    await until("the share is told", async () => {
      const { fetchedPercent } = JSON.parse(await readFile(name, "utf8")) as { fetchedPercent: number };
      return fetchedPercent === wanted;
    });
  });
});

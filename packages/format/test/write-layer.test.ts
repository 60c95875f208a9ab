import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import type { Layer } from "@estargz/interface";
import { describe, expect, it } from "vitest";
import { concatBytes } from "../src/bytes.ts";
import {
  convertTar,
  device,
  directory,
  fifo,
  file,
  fromBytes,
  hardLink,
  type LayerOutput,
  openLayer,
  symlink,
  type WriteLayerOptions,
  type WrittenLayer,
  writeLayer,
} from "../src/index.ts";
import { fixtureBlobs, fixtureBytes, fixtureSources } from "./fixtures.ts";

async function collect(output: LayerOutput): Promise<{ blob: Uint8Array; written: WrittenLayer }> {
  const parts: Uint8Array[] = [];
  for await (const bytes of output.bytes) parts.push(bytes);
  return { blob: concatBytes(parts), written: await output.result };
}

async function reopen({ blob, written }: { blob: Uint8Array; written: WrittenLayer }): Promise<Layer> {
  return openLayer(fromBytes(blob), { annotations: written.annotations, externalToc: written.externalToc?.bytes });
}

const sha256 = (bytes: Uint8Array): string => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;

const OPTIONS: Readonly<Record<string, WriteLayerOptions>> = {
  default: {},
  "small chunks": { chunkSizeBytes: 1000 },
  "packed members": { minMemberBytes: 8192, chunkSizeBytes: 4096 },
  "chunks by a function": { chunkSizeBytes: ({ size }) => (size > 5000 ? [1, 2, 4096] : undefined) },
  zstd: { compression: "zstd" },
  "zstd, packed": { compression: "zstd", minMemberBytes: 8192, level: 10 },
  "external TOC": { externalToc: true },
  lossless: { lossless: true },
  "lossless external TOC": { lossless: true, externalToc: true },
  "lossless zstd": { lossless: true, compression: "zstd" },
  prioritised: { prioritizedFiles: ["size/10000", "/bin/tool-hard", "./names/ünïcödé-日本語-🐳", "dev/null", "wh/kept"] },
  "level 0": { level: 0 },
  "level 9": { level: 9 },
};

describe.each(Object.entries(OPTIONS))("a layer written with %s", (_name, options) => {
  it("reads back as its source", async () => {
    const tar = fixtureBytes("small.tar");
    const result = await collect(convertTar(tar, options));
    const layer = await reopen(result);
    expect(await layer.verify("full")).toMatchObject({ blobDigest: result.written.digest, diffId: result.written.diffId });
    const theirs = await openLayer(fromBytes(fixtureBytes("small.lossless.tar.gz")), { allowUnverified: true });
    const visible = (of: Layer): string[] =>
      of.entries
        .map((entry) => entry.path)
        .filter((path) => !path.endsWith(".landmark"))
        .sort();
    expect(visible(layer)).toEqual(visible(theirs));
    for (const path of visible(layer)) {
      const entry = layer.lookup(path)!;
      const other = theirs.lookup(path)!;
      for (const key of [
        "type",
        "size",
        "mode",
        "uid",
        "gid",
        "mtimeNs",
        "linkName",
        "devMajor",
        "devMinor",
        "linkCount",
        "xattrs",
        "digest",
      ] as const) {
        expect([path, key, entry[key]]).toEqual([path, key, other[key]]);
      }
      const contents = entry.type === "reg" ? [await layer.readFile(entry), await theirs.readFile(other)] : [];
      expect(contents[0]).toEqual(contents[1]);
    }
  });

  it("tells the truth about itself", async () => {
    const { blob, written } = await collect(convertTar(fixtureBytes("small.tar"), options));
    expect(written.digest).toBe(sha256(blob));
    expect(written.size).toBe(blob.length);
    const unpacked = options.compression === "zstd" ? execFileSync("zstd", ["-dc"], { input: blob, maxBuffer: 1 << 28 }) : gunzipSync(blob);
    expect(written.diffId).toBe(sha256(unpacked));
    expect(written.uncompressedSize).toBe(unpacked.length);
    expect(written.tocDigest).toBe(sha256(written.tocBytes));
    const keepsDiffId = options.lossless === true && (options.externalToc === true || options.compression === "zstd");
    expect(written.diffId === `sha256:${fixtureSources["small"]!.sha256}`).toBe(keepsDiffId);
  });

  it("gives the same bytes whatever the number of threads and the pieces of the source", async () => {
    const tar = gunzipSync(fixtureBytes("big.tar.gz"));
    async function* pieces(): AsyncIterable<Uint8Array> {
      for (let at = 0, size = 1; at < tar.length; at += size, size = ((size * 7) % 100_003) + 1) yield tar.subarray(at, at + size);
    }
    const digests = [
      (await collect(convertTar(tar, { ...options, threads: 1 }))).written.digest,
      (await collect(convertTar(pieces(), { ...options, threads: 3 }))).written.digest,
    ];
    expect(digests[1]).toBe(digests[0]);
  });
});

describe("writing that is stopped", () => {
  const reason = new Error("enough");

  it("says so when its bytes are not read to their end", async () => {
    const output = writeLayer([file("a", "content")]);
    for await (const _bytes of output.bytes) break;
    await expect(output.result).rejects.toMatchObject({ code: "CLOSED" });
  });

  it("aborts with the signal's reason while its source gives nothing", async () => {
    const controller = new AbortController();
    const tar = fixtureBytes("small.tar");
    async function* stuck(): AsyncIterable<Uint8Array> {
      yield tar.subarray(0, 700);
      controller.abort(reason);
      await new Promise(() => {});
    }
    await expect(collect(convertTar(stuck(), { signal: controller.signal }))).rejects.toBe(reason);
  });

  it("aborts within a large file, and ends its source", async () => {
    const controller = new AbortController();
    let ended = false;
    let pieces = 0;
    async function* endless(): AsyncIterable<Uint8Array> {
      try {
        for (; ; pieces += 1) {
          if (pieces === 20) controller.abort(reason);
          yield new Uint8Array(1 << 20);
        }
      } finally {
        ended = true;
      }
    }
    const large = file("large", { size: 2 ** 40, stream: endless });
    await expect(collect(writeLayer([large], { signal: controller.signal }))).rejects.toBe(reason);
    expect(pieces).toBeLessThan(40);
    expect(ended).toBe(true);
  });
});

describe("the TOC", () => {
  const comparable = fixtureBlobs.filter(
    ([, blob]) => blob.options.every((option) => !/minchunk|legacy|external/.test(option)) && !/minchunk|legacy|external/.test(blob.file),
  );

  it.each(comparable)("of %s is that of the reference but for offsets", async (_name, blob) => {
    const at = (name: string): string | undefined =>
      blob.options.includes(name) ? blob.options[blob.options.indexOf(name) + 1] : undefined;
    const source = fixtureBytes(fixtureSources[blob.source]!.file);
    const chunk = at("-chunk");
    const prio = at("-prio");
    const { written } = await collect(
      convertTar(source, {
        compression: blob.options.includes("-zstd") ? "zstd" : "gzip",
        lossless: blob.options.includes("-lossless"),
        ...(chunk === undefined ? {} : { chunkSizeBytes: Number(chunk) }),
        ...(prio === undefined ? {} : { prioritizedFiles: prio.split(","), allowMissingFiles: true }),
      }),
    );
    const theirs = (await openLayer(fromBytes(fixtureBytes(blob.file)), { allowUnverified: true, annotations: blob.manifestAnnotations }))
      .tocBytes;
    // The reference writes owners' names again in each part that one of its workers made.
    const plain = (bytes: Uint8Array): string =>
      new TextDecoder()
        .decode(bytes)
        .replaceAll(/"offset": \d+/g, '"offset": N')
        .replaceAll(/\s*"(user|group)Name": .*/g, "");
    // One thing differs on purpose: of several entries with one path, a stream can't drop the earlier ones.
    expect(blob.source === "dup" || plain(written.tocBytes) === plain(theirs)).toBe(true);
  });
});

describe("entries", () => {
  it("of every kind come back as they were given", async () => {
    const mtime = 1_700_000_000_123_456_789n;
    const long = `${"d".repeat(200)}/${"é".repeat(100)}`;
    const result = await collect(
      writeLayer([
        directory("a", { mode: 0o1777, uid: 3_000_000_000, userName: "ü" }),
        file("a/b", "hello", { mode: 0o4755, mtime, xattrs: { "user.x": Uint8Array.of(0, 255), "user.y": "z" } }),
        file("a/empty", new Uint8Array(0)),
        symlink("a/link", "../é"),
        hardLink("a/hard", "a/b"),
        device("null", "char", 1, 3),
        device("big", "block", 4095, 10_000_000),
        fifo("pipe"),
        directory("d".repeat(200)),
        file(long, new Blob(["x"])),
      ]),
    );
    const layer = await reopen(result);
    expect(layer.lookup("a")).toMatchObject({ type: "dir", mode: 0o1777, uid: 3_000_000_000 });
    const b = layer.lookup("a/b")!;
    expect(b).toMatchObject({ type: "reg", mode: 0o4755, linkCount: 2, size: 5, mtimeNs: 1_700_000_000n * 1_000_000_000n });
    expect(b.xattrs).toEqual(
      new Map([
        ["user.x", Uint8Array.of(0, 255)],
        ["user.y", Uint8Array.of(122)],
      ]),
    );
    expect(new TextDecoder().decode(await layer.readFile(b))).toBe("hello");
    expect(layer.lookup("a/hard")).toBe(b);
    expect(layer.lookup("a/link")).toMatchObject({ type: "symlink", linkName: "../é", size: 5 });
    expect(layer.lookup("null")).toMatchObject({ type: "char", devMajor: 1, devMinor: 3 });
    expect(layer.lookup("big")).toMatchObject({ type: "block", devMajor: 4095, devMinor: 10_000_000 });
    expect(layer.lookup("pipe")).toMatchObject({ type: "fifo" });
    expect(layer.lookup(long)).toMatchObject({ type: "reg", size: 1 });
    await layer.verify("full");
  });

  it.each(["gzip", "zstd"] as const)("pass the tools' tests as %s", async (compression) => {
    const { blob } = await collect(convertTar(fixtureBytes("small.tar"), { compression }));
    const folder = mkdtempSync(join(tmpdir(), "estargz-format-"));
    try {
      const path = join(folder, compression === "gzip" ? "layer.gz" : "layer.zst");
      writeFileSync(path, blob);
      execFileSync(compression === "gzip" ? "gzip" : "zstd", ["-t", path], { stdio: "pipe" });
      const names = execFileSync("tar", ["-tf", path, compression === "gzip" ? "-z" : "--zstd"], { encoding: "utf8" });
      expect(names.split("\n")).toContain("bin/tool");
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

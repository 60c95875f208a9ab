import { createHash } from "node:crypto";
import { linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { zstdCompressSync } from "node:zlib";
import { type Digest, isEstargzError, type Layer, type ReaderAt } from "@estargz/interface";
import { describe, expect, it } from "vitest";
import { concatBytes } from "../src/bytes.ts";
import { encodeSkippableFrame } from "../src/footer.ts";
import {
  decodeChunk,
  decodeMember,
  file,
  fromBytes,
  type OpenLayerOptions,
  openLayer,
  openLayerFromToc,
  writeLayer,
} from "../src/index.ts";
import { openFile, readFolder } from "../src/node/index.ts";

async function codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => "no error",
    (error: unknown) => (isEstargzError(error) ? error.code : String(error)),
  );
}

const sha256 = (bytes: Uint8Array | string): Digest => `sha256:${createHash("sha256").update(bytes).digest("hex")}` as Digest;
const noise = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (Math.imul(i + 7, 2_654_435_761) >>> 13) & 0xff);

/** A reader that counts its calls, and doesn't tell its size beforehand. */
function counting(bytes: Uint8Array): { reader: ReaderAt; calls: string[] } {
  const calls: string[] = [];
  const inner = fromBytes(bytes);
  const reader: ReaderAt = {
    size: undefined,
    readAt: (offset, length, options) => (calls.push(`${length} at ${offset}`), inner.readAt(offset, length, options)),
    readTail: (length, options) => (calls.push(`last ${length}`), inner.readTail(length, options)),
    readRanges: (ranges, options) => (calls.push(`${ranges.length} ranges`), inner.readRanges(ranges, options)),
  };
  return { reader, calls };
}

async function build(
  options = {},
): Promise<{ blob: Uint8Array; tocDigest: Digest; annotations: Readonly<Record<string, string>>; diffId: Digest }> {
  const output = writeLayer([file("a", noise(9000)), file("b", "bb"), file("c", "ccc")], { chunkSizeBytes: 4096, threads: 1, ...options });
  const parts: Uint8Array[] = [];
  for await (const bytes of output.bytes) parts.push(bytes);
  return { blob: concatBytes(parts), ...(await output.result) };
}

describe("opening", () => {
  it("takes one read if the guess was long enough, two otherwise", async () => {
    const { blob, tocDigest } = await build();
    const enough = counting(blob);
    await openLayer(enough.reader, { tocDigest });
    expect(enough.calls).toHaveLength(1);
    const short = counting(blob);
    await openLayer(short.reader, { tocDigest, tailBytes: 60 });
    expect(short.calls).toEqual(["last 72", expect.stringMatching(/ at /)]);
  });

  it.each(["zstd", "gzip"])("reads several chunks of %s with one call, and packed files together", async (compression) => {
    const { blob, annotations } = await build({ compression, minMemberBytes: 100_000 });
    const { reader, calls } = counting(blob);
    const layer = await openLayer(reader, { annotations });
    const before = calls.length;
    expect(await layer.readFile(layer.lookup("a")!)).toEqual(noise(9000));
    expect(calls.slice(before)).toEqual(["1 ranges"]);
  });

  it.each<[string, OpenLayerOptions, string]>([
    ["nothing known of its TOC", {}, "UNVERIFIED"],
    ["another TOC's digest", { tocDigest: sha256("other") }, "DIGEST_MISMATCH"],
    ["a limit on the TOC", { allowUnverified: true, limits: { maxTocBytes: 100 } }, "LIMIT_EXCEEDED"],
    ["a limit on the packed TOC", { allowUnverified: true, limits: { maxTocPackedBytes: 10 } }, "LIMIT_EXCEEDED"],
    ["a limit on entries", { allowUnverified: true, limits: { maxEntries: 3 } }, "LIMIT_EXCEEDED"],
    ["a limit on chunks", { allowUnverified: true, limits: { maxChunkBytes: 1000 } }, "LIMIT_EXCEEDED"],
    ["a limit that is no number", { allowUnverified: true, limits: { maxEntries: -1 } }, "INVALID_ARGUMENT"],
    ["a tail of no bytes", { allowUnverified: true, tailBytes: 0 }, "INVALID_ARGUMENT"],
  ])("refuses %s", async (_name, options, code) => {
    expect(await codeOf(openLayer(fromBytes((await build()).blob), options))).toBe(code);
  });

  it("says that an external TOC is missing, and takes one that is given", async () => {
    const { blob, tocDigest } = await build({ externalToc: true });
    expect(await codeOf(openLayer(fromBytes(blob), { tocDigest }))).toBe("NOT_FOUND");
  });

  it("aborts with the signal's reason", async () => {
    const reason = new Error("enough");
    await expect(openLayer(fromBytes((await build()).blob), { allowUnverified: true, signal: AbortSignal.abort(reason) })).rejects.toBe(
      reason,
    );
  });

  it("marks unverified layers, and leaves chunks without digests to allowUnverified", async () => {
    const { blob } = await build();
    expect((await openLayer(fromBytes(blob), { allowUnverified: true })).verified).toBe(false);
    const toc = JSON.stringify({
      version: 1,
      entries: [
        { name: "f", type: "reg", size: 8, chunkSize: 4, digest: sha256("x") },
        { name: "f", type: "chunk", chunkOffset: 4 },
      ],
    });
    const tocBytes = new TextEncoder().encode(toc);
    const open = (tocDigest: Digest | undefined): Layer =>
      openLayerFromToc({
        blob: fromBytes(blob),
        tocBytes,
        format: "stargz",
        blobSize: 100,
        payloadEnd: 100,
        tocDigest,
        allowUnverified: true,
      });
    expect(() => open(sha256(tocBytes))).toThrow(expect.objectContaining({ code: "UNVERIFIED" }));
    expect(open(undefined).lookup("f")?.chunks[0]?.digest).toBeUndefined();
  });
});

/** A layer as containers/storage writes it now: 64-byte footer, runs of zeros, fractions of seconds, a tar-split. */
function currentZstdChunked(zeroBytes: number): { blob: Uint8Array; annotations: Record<string, string>; toc: Uint8Array } {
  const zstd = (bytes: Uint8Array): Uint8Array => new Uint8Array(zstdCompressSync(bytes));
  const frames = [zstd(new Uint8Array(512)), zstd(noise(5000)), zstd(noise(700)), zstd(new TextEncoder().encode("tar-split"))];
  const starts = frames.map((_, i) => frames.slice(0, i).reduce((sum, frame) => sum + frame.length, 0));
  const entries = [
    {
      name: "f",
      type: "reg",
      size: 5000 + zeroBytes + 700,
      mode: 420,
      modtime: "2023-11-14T22:13:20.25Z",
      accesstime: "2023-11-14T22:13:20Z",
      digest: sha256(concatBytes([noise(5000), new Uint8Array(zeroBytes), noise(700)])),
      offset: starts[1],
      endOffset: starts[3],
      chunkSize: 5000,
      chunkDigest: sha256(noise(5000)),
    },
    { name: "f", type: "chunk", chunkType: "zeros", chunkOffset: 5000, chunkSize: zeroBytes, offset: starts[2] },
    { name: "f", type: "chunk", chunkOffset: 5000 + zeroBytes, chunkSize: 700, offset: starts[2], chunkDigest: sha256(noise(700)) },
  ];
  const toc = new TextEncoder().encode(JSON.stringify({ version: 1, entries, tarSplitDigest: sha256("tar-split") }));
  const packed = zstd(toc);
  const split = encodeSkippableFrame(frames[3] as Uint8Array);
  const payload = concatBytes(frames.slice(0, 3));
  const tocOffset = payload.length + 8;
  const splitOffset = tocOffset + packed.length + 8;
  const footer = new Uint8Array(64);
  [tocOffset, packed.length, toc.length, 1, splitOffset, frames[3]!.length, 9].forEach((value, i) =>
    new DataView(footer.buffer).setBigUint64(i * 8, BigInt(value), true),
  );
  footer.set(new TextEncoder().encode("GNUlInUx"), 56);
  return {
    blob: concatBytes([payload, encodeSkippableFrame(packed), split, encodeSkippableFrame(footer)]),
    toc,
    annotations: {
      "io.github.containers.zstd-chunked.manifest-checksum": sha256(packed),
      "io.github.containers.zstd-chunked.manifest-position": `${tocOffset}:${packed.length}:${toc.length}:1`,
    },
  };
}

describe("zstd:chunked of containers/storage", () => {
  it("opens by its footer and its annotations, and reads runs of zeros", async () => {
    const { blob, annotations, toc } = currentZstdChunked(3000);
    const layer = await openLayer(fromBytes(blob), { annotations });
    expect(layer).toMatchObject({ format: "zstd:chunked", verified: true, tocDigest: sha256(toc) });
    const entry = layer.lookup("f")!;
    expect(entry.mtimeNs % 1_000_000_000n).toBe(250_000_000n);
    expect(entry.chunks.map((chunk) => [chunk.length, chunk.zeros])).toEqual([
      [5000, false],
      [3000, true],
      [700, false],
    ]);
    expect(layer.span(entry.chunks[1]!).length).toBe(0);
    expect(await layer.readFile(entry)).toEqual(concatBytes([noise(5000), new Uint8Array(3000), noise(700)]));
    expect(await layer.readFile(entry, 4990, 3020)).toEqual(
      concatBytes([noise(5000).subarray(4990), new Uint8Array(3000), noise(700).subarray(0, 10)]),
    );
  });

  it("opens by its annotations alone, as containers/storage does", async () => {
    const { blob, annotations } = currentZstdChunked(10);
    const withoutFooter = concatBytes([blob.subarray(0, -72), encodeSkippableFrame(new Uint8Array(64))]);
    expect((await openLayer(fromBytes(withoutFooter), { annotations })).lookup("f")?.size).toBe(5710);
    expect(await codeOf(openLayer(fromBytes(withoutFooter), { allowUnverified: true }))).toBe("NOT_ESTARGZ");
  });

  it("refuses a compressed TOC that isn't the announced one, and positions that make no sense", async () => {
    const { blob, annotations } = currentZstdChunked(10);
    const [checksum, position] = Object.keys(annotations) as [string, string];
    expect(await codeOf(openLayer(fromBytes(blob), { annotations: { ...annotations, [checksum]: sha256("other") } }))).toBe(
      "DIGEST_MISMATCH",
    );
    expect(await codeOf(openLayer(fromBytes(blob), { annotations: { ...annotations, [position]: "1:2:3:4" } }))).toBe("INVALID_FOOTER");
  });

  it("believes an annotation that names a far place only once the footer says so", async () => {
    const { blob, annotations } = currentZstdChunked(10);
    const position = Object.keys(annotations)[1]!;
    const size = 100 * 2 ** 30;
    const asked: number[] = [];
    const huge: ReaderAt = {
      ...fromBytes(blob),
      size,
      readTail: async (length) => {
        asked.push(length);
        throw new Error("stop");
      },
    };
    const lie = { ...annotations, [position]: "8:100:100:1" };
    await expect(openLayer(huge, { annotations: lie })).rejects.toThrow("stop");
    expect(asked[0]).toBeLessThan(17 * 2 ** 20);
  });

  it("cuts long runs of zeros, so that no one has to hold them", async () => {
    const { blob, annotations } = currentZstdChunked(9_000_000);
    const layer = await openLayer(fromBytes(blob), { annotations });
    const zeros = layer.lookup("f")!.chunks.filter((chunk) => chunk.zeros);
    expect(zeros.map((chunk) => chunk.length)).toEqual([4 << 20, 4 << 20, 9_000_000 - (8 << 20)]);
    expect((await layer.readFile(layer.lookup("f")!, 5000, 9_000_000)).every((byte) => byte === 0)).toBe(true);
  });
});

describe("decoding without a layer", () => {
  it("gives a chunk's bytes, and all chunks of a member at once", async () => {
    const { blob, tocDigest } = await build({ minMemberBytes: 1 << 20 });
    const layer = await openLayer(fromBytes(blob), { tocDigest });
    const chunks = layer.chunks.filter((chunk) => chunk.blobOffset === layer.lookup("b")!.chunks[0]!.blobOffset);
    expect(chunks.length).toBeGreaterThan(3);
    const bytes = blob.subarray(chunks[0]!.blobOffset);
    const pieces = decodeMember(
      bytes,
      chunks.map((chunk) => ({ ...chunk, compression: layer.compression })),
    );
    expect(pieces).toEqual(chunks.map((chunk) => decodeChunk(bytes, { ...chunk, compression: layer.compression })));
    expect(() => decodeChunk(bytes, { ...chunks[1]!, compression: "gzip", innerOffset: chunks[1]!.innerOffset + 1 })).toThrow(
      expect.objectContaining({ code: "DIGEST_MISMATCH" }),
    );
  });
});

describe("entries that a later one replaces", () => {
  it("go away with what is in them", async () => {
    const entries = [
      { name: "d/", type: "dir" },
      { name: "d/e/f", type: "dir" },
      { name: "d", type: "symlink", linkName: "x" },
    ];
    const tocBytes = new TextEncoder().encode(JSON.stringify({ version: 1, entries }));
    const open = (bytes: Uint8Array): Layer =>
      openLayerFromToc({
        blob: fromBytes(new Uint8Array(9)),
        tocBytes: bytes,
        format: "estargz",
        blobSize: 9,
        payloadEnd: 9,
        allowUnverified: true,
      });
    expect(open(tocBytes).entries.map((entry) => entry.path)).toEqual(["", "d"]);
    const reversed = new TextEncoder().encode(JSON.stringify({ version: 1, entries: entries.toReversed().slice(0, 2) }));
    expect(() => open(reversed)).toThrow(expect.objectContaining({ code: "INVALID_TOC" }));
  });
});

describe("what a hostile TOC names", () => {
  const open = (entries: readonly object[]): Layer => {
    const tocBytes = new TextEncoder().encode(JSON.stringify({ version: 1, entries }));
    return openLayerFromToc({
      blob: fromBytes(new Uint8Array(8)),
      tocBytes,
      format: "zstd:chunked",
      blobSize: 8,
      payloadEnd: 8,
      allowUnverified: true,
    });
  };

  it.each(["a//", "a///", "//a//", "./a//."])("has no empty names: %s", (name) => {
    const layer = open([{ name, type: "dir" }]);
    expect(layer.children(layer.root).map((child) => child.name)).toEqual(["a"]);
    expect(layer.children(layer.lookup("a")!)).toEqual([]);
  });

  it("may be larger than memory: it can be streamed, and reading it at once is a typed error", async () => {
    const size = 4_000_000_000_000;
    const layer = open([{ name: "f", type: "reg", size, chunkType: "zeros" }]);
    expect(await codeOf(layer.readFile(layer.lookup("f")!))).toBe("LIMIT_EXCEEDED");
    for await (const bytes of layer.streamFile(layer.lookup("f")!)) {
      expect(bytes.length).toBe(4 << 20);
      break;
    }
  });

  it.each(["2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-01-01T25:00:00Z", "yesterday"])(
    "has a time of %s, which is the epoch",
    (modtime) => {
      expect(open([{ name: "f", type: "dir", modtime }]).lookup("f")?.mtimeNs).toBe(0n);
    },
  );
});

describe("a folder", () => {
  it("becomes a layer", async () => {
    const folder = mkdtempSync(join(tmpdir(), "estargz-format-"));
    try {
      mkdirSync(join(folder, "in", "d"), { recursive: true });
      writeFileSync(join(folder, "in", "d", "f"), "content", { mode: 0o640 });
      linkSync(join(folder, "in", "d", "f"), join(folder, "in", "hard"));
      symlinkSync("d/f", join(folder, "in", "link"));
      const output = writeLayer(
        readFolder(join(folder, "in"), { map: (path, found) => (path === "link" ? undefined : { ...found, mtime: 0n }) }),
      );
      const parts: Uint8Array[] = [];
      for await (const bytes of output.bytes) parts.push(bytes);
      writeFileSync(join(folder, "layer"), concatBytes(parts));
      const blob = await openFile(join(folder, "layer"));
      const layer = await openLayer(blob, { annotations: (await output.result).annotations });
      expect(layer.lookup("d/f")).toMatchObject({ mode: 0o640, linkCount: 2, size: 7, mtimeNs: 0n });
      expect(layer.lookup("hard")).toBe(layer.lookup("d/f"));
      expect(layer.lookup("link")).toBeUndefined();
      await blob.close?.();
      expect(await codeOf(openFile(join(folder, "none")))).toBe("NOT_FOUND");
      expect(await codeOf(openFile(folder))).toBe("IO_ERROR");
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

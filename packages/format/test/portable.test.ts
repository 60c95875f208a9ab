import { gzipSync, zstdCompressSync } from "node:zlib";
import { isEstargzError } from "@estargz/interface";
import { describe, expect, it } from "vitest";
import { concatBytes } from "../src/bytes.ts";
import { runtime as node } from "../src/node/runtime.ts";
import { createMemorySpool } from "../src/runtime/memory-spool.ts";
import { runtime as portable } from "../src/runtime/portable.ts";

const CONTENT = Uint8Array.from({ length: 200_000 }, (_, i) => (i % 253) ^ (i >> 9));
const compress = {
  gzip: (bytes: Uint8Array) => new Uint8Array(gzipSync(bytes)),
  zstd: (bytes: Uint8Array) => new Uint8Array(zstdCompressSync(bytes)),
};
const SKIPPABLE = Uint8Array.of(0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3);

async function* pieces(bytes: Uint8Array, size: number): AsyncIterable<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function collect(source: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const piece of source) parts.push(piece.slice());
  return concatBytes(parts);
}

async function codeOf(run: Promise<unknown>): Promise<string> {
  return run.then(
    () => "no error",
    (error: unknown) => (isEstargzError(error) ? error.code : String(error)),
  );
}

describe.each([
  ["node", node],
  ["portable", portable],
] as const)("the %s runtime", (_name, runtime) => {
  it.each(["gzip", "zstd"] as const)("streams several members of %s, in pieces of any size", async (format) => {
    const between = format === "zstd" ? SKIPPABLE : compress.gzip(new Uint8Array(0));
    const packed = concatBytes([compress[format](CONTENT.subarray(0, 100)), between, compress[format](CONTENT.subarray(100))]);
    for (const size of [1, 7, 1000, packed.length])
      expect(await collect(runtime.decompress(format, pieces(packed, size)))).toEqual(CONTENT);
  });

  it.each(["gzip", "zstd"] as const)("refuses %s that is empty, cut off or damaged", async (format) => {
    const packed = compress[format](CONTENT);
    expect(await codeOf(collect(runtime.decompress(format, pieces(new Uint8Array(0), 1))))).toBe("INVALID_COMPRESSION");
    for (const length of [3, 20, packed.length - 1]) {
      expect(await codeOf(collect(runtime.decompress(format, pieces(packed.subarray(0, length), 1000))))).toBe("INVALID_COMPRESSION");
    }
    const damaged = packed.slice();
    damaged[1] = 0;
    expect(await codeOf(collect(runtime.decompress(format, pieces(damaged, 1000))))).toBe("INVALID_COMPRESSION");
  });

  it("passes on what its source throws", async () => {
    const failure = new Error("the source fails");
    async function* failing(): AsyncIterable<Uint8Array> {
      yield compress.gzip(CONTENT).subarray(0, 50);
      throw failure;
    }
    await expect(collect(runtime.decompress("gzip", failing()))).rejects.toBe(failure);
  });

  it("hashes, and reads text that is UTF-8", () => {
    const hasher = runtime.createSha256();
    hasher.update(CONTENT.subarray(0, 5));
    hasher.update(CONTENT.subarray(5));
    expect(hasher.hex()).toBe(node.sha256(CONTENT));
    expect(runtime.sha256(CONTENT)).toBe(node.sha256(CONTENT));
    expect(runtime.decodeUtf8(new TextEncoder().encode("ascii ü 🐳"))).toBe("ascii ü 🐳");
    expect(() => runtime.decodeUtf8(Uint8Array.of(0x61, 0xff))).toThrow(TypeError);
  });

  it.each([0, 1, 6, 9])("writes gzip members of level %i that both can read", (level) => {
    const member = runtime.createCompressor("gzip", level)!.compress([CONTENT.subarray(0, 1000), CONTENT.subarray(1000)]);
    expect(node.gzip.decode(member, CONTENT.length)).toEqual(CONTENT);
    expect(portable.gzip.decode(member, CONTENT.length)).toEqual(CONTENT);
    expect(Array.from(member.subarray(0, 10))).toEqual([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
  });

  it("keeps bytes and gives them back", async () => {
    for (const spool of [runtime.createSpool(), createMemorySpool()]) {
      for await (const piece of pieces(CONTENT, 999)) await spool.write(piece);
      for (const [offset, length] of [
        [0, 10],
        [998, 2],
        [5000, 100_000],
        [199_999, 1],
      ] as const) {
        expect(await spool.read(offset, length)).toEqual(CONTENT.subarray(offset, offset + length));
      }
      expect(["OUT_OF_RANGE", "IO_ERROR"]).toContain(await codeOf(spool.read(199_999, 2)));
      await spool.close();
    }
  });
});

it("refuses zstd frames that ask for a large window", async () => {
  const frame = Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
  for (const runtime of [node, portable]) {
    expect(() => runtime.zstd.decode(frame, 10)).toThrow(expect.objectContaining({ code: "INVALID_COMPRESSION" }));
    expect(await codeOf(collect(runtime.decompress("zstd", pieces(frame, 100))))).toBe("INVALID_COMPRESSION");
  }
});

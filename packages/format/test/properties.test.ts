import { isEstargzError, type Layer } from "@estargz/interface";
import { buildTar, trees } from "@estargz/testing";
import { expectLayerEquals } from "@estargz/testing/suites";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { concatBytes } from "../src/bytes.ts";
import { parseFooter } from "../src/footer.ts";
import { convertTar, fromBytes, openLayer, openLayerFromToc, type WriteLayerOptions } from "../src/index.ts";

async function write(tar: Uint8Array, options: WriteLayerOptions) {
  const output = convertTar(tar, { threads: 1, ...options });
  const parts: Uint8Array[] = [];
  for await (const bytes of output.bytes) parts.push(bytes);
  return { blob: concatBytes(parts), written: await output.result };
}

const options: fc.Arbitrary<WriteLayerOptions> = fc.oneof(
  fc.record({
    compression: fc.constantFrom("gzip", "zstd"),
    level: fc.constantFrom(1, 6),
    chunkSizeBytes: fc.constantFrom(1, 100, 4096, 1 << 20).filter((size) => size > 1),
    minMemberBytes: fc.constantFrom(0, 1, 1000, 50_000),
    lossless: fc.boolean(),
  }) as fc.Arbitrary<WriteLayerOptions>,
  fc.record({ externalToc: fc.constant(true), lossless: fc.boolean(), chunkSizeBytes: fc.constantFrom(777, 4096) }),
);

/** Runs `read`; gives its value, or the code of its error; anything else is a failure. */
async function outcome<T>(read: () => T | Promise<T>): Promise<T | { code: string }> {
  try {
    return await read();
  } catch (error) {
    if (isEstargzError(error)) return { code: error.code };
    throw error;
  }
}

const blob = {
  size: 1 << 20,
  readAt: () => Promise.reject(new Error()),
  readTail: () => Promise.reject(new Error()),
  readRanges: () => Promise.reject(new Error()),
};
const openToc = (tocBytes: Uint8Array): Layer =>
  openLayerFromToc({ blob, tocBytes, format: "estargz", blobSize: 1 << 20, payloadEnd: 1 << 20, allowUnverified: true });

describe("properties", () => {
  it("any tree that is written reads back equal and verifies", async () => {
    await fc.assert(
      fc.asyncProperty(trees(), options, fc.constantFrom("pax", "gnu"), async (specs, how, flavour) => {
        const { blob: bytes, written } = await write(buildTar(specs, flavour), how);
        const layer = await openLayer(fromBytes(bytes), { annotations: written.annotations, externalToc: written.externalToc?.bytes });
        await expectLayerEquals(layer, specs);
        expect(await layer.verify("full")).toMatchObject({ blobDigest: written.digest, diffId: written.diffId });
      }),
      { numRuns: 60 },
    );
  }, 120_000);

  it("any JSON as a TOC gives a layer or a typed error", async () => {
    const field = fc.oneof(
      fc.constantFrom<unknown>(
        "",
        "a",
        "a/",
        "../a",
        "a/b",
        "dir",
        "reg",
        "chunk",
        "hardlink",
        "symlink",
        0,
        1,
        -1,
        1.5,
        2 ** 53,
        1e300,
        null,
        [],
        {},
        true,
      ),
      fc.jsonValue(),
    );
    const names = [
      "name",
      "type",
      "size",
      "linkName",
      "mode",
      "uid",
      "xattrs",
      "digest",
      "offset",
      "innerOffset",
      "chunkOffset",
      "chunkSize",
      "chunkDigest",
      "modtime",
      "Size",
      "chunkType",
    ];
    const entry = fc.oneof(
      { weight: 9, arbitrary: fc.dictionary(fc.constantFrom(...names), field) },
      {
        weight: 3,
        arbitrary: fc.record({
          name: fc.constantFrom("a", "b", "a/b", "c"),
          type: fc.constantFrom("dir", "reg", "hardlink", "symlink", "chunk"),
          linkName: fc.constantFrom("a", "b", "c"),
          size: fc.nat(5),
          chunkSize: fc.nat(5),
          chunkOffset: fc.nat(5),
        }),
      },
      { weight: 1, arbitrary: fc.jsonValue() },
    );
    const toc = fc.oneof(
      { weight: 9, arbitrary: fc.record({ version: fc.constant(1), entries: fc.array(entry, { maxLength: 6 }) }) },
      { weight: 1, arbitrary: fc.jsonValue() },
    );
    await fc.assert(
      fc.asyncProperty(toc, async (value) => {
        const result = await outcome(() => {
          const layer = openToc(new TextEncoder().encode(JSON.stringify(value)));
          return layer.entries.flatMap((each) => layer.children(each)).length + layer.chunks.length;
        });
        expect(["number", "object"]).toContain(typeof result);
      }),
      { numRuns: 3000 },
    );
  });

  it("any bytes as a blob give a typed error, and any tail a footer or a typed error", async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), async (bytes) => {
        expect(await outcome(() => openLayer(fromBytes(bytes), { allowUnverified: true }))).toHaveProperty("code");
        await outcome(() => parseFooter(bytes, 1 << 20));
      }),
      { numRuns: 2000 },
    );
  });

  it("a mutated blob never gives wrong bytes", async () => {
    const tar = buildTar([
      { name: "a", content: "first file" },
      { name: "d/" },
      { name: "d/b", content: new Uint8Array(9000).fill(7) },
      { name: "d/c", content: "third" },
    ]);
    const layers = await Promise.all([
      write(tar, { chunkSizeBytes: 4096 }),
      write(tar, { compression: "zstd" }),
      write(tar, { minMemberBytes: 5000 }),
    ]);
    const expected = new Map<string, string>([
      ["a", "first file"],
      ["d/b", "\u0007".repeat(9000)],
      ["d/c", "third"],
    ]);
    const edit = fc.record({
      at: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      byte: fc.nat(255),
      insert: fc.integer({ min: -3, max: 3 }),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...layers),
        fc.array(edit, { minLength: 1, maxLength: 4 }),
        async ({ blob: original, written }, edits) => {
          let bytes: Uint8Array = original.slice();
          for (const { at, byte, insert } of edits) {
            const position = Math.floor(at * bytes.length);
            if (insert < 0) bytes = concatBytes([bytes.subarray(0, position), bytes.subarray(position - insert)]);
            else if (insert > 0)
              bytes = concatBytes([bytes.subarray(0, position), new Uint8Array(insert).fill(byte), bytes.subarray(position)]);
            else bytes[position] = byte;
          }
          const layer = await outcome(() => openLayer(fromBytes(bytes), { annotations: written.annotations }));
          if ("code" in layer) return;
          for (const [path, text] of expected) {
            const read = await outcome(async () => new TextDecoder().decode(await layer.readFile(layer.lookup(path)!)));
            expect(typeof read === "string" ? read : text).toBe(text);
          }
        },
      ),
      { numRuns: 1500 },
    );
  });
});

import { isEstargzError } from "@estargz/interface";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DEFAULT_LIMITS } from "../src/index.ts";
import { readTocTable } from "../src/toc/toc-table.ts";

const encoder = new TextEncoder();
const SHA = `sha256:${"0123456789abcdef".repeat(4)}`;
const OTHER_SHA = `sha256:${"fedcba9876543210".repeat(4)}`;

/** Everything that a table says, as plain data; or the code of its error. */
function tableOf(bytes: Uint8Array): unknown {
  try {
    const table = readTocTable(bytes, { limits: DEFAULT_LIMITS, payloadEnd: 1 << 30, requireDigests: false });
    const { chunks, digestTexts } = table;
    return table.paths.map((path, row) => ({
      path,
      numbers: [table.kinds, table.sizes, table.modes, table.uids, table.gids, table.seconds].map((column) => column[row]),
      nanoseconds: table.nanoseconds.get(row),
      link: table.linkNames.get(row),
      device: table.devices.get(row),
      xattrs: Object.entries(table.xattrs.get(row) ?? {}),
      digest: digestTexts.get(table.digests[row] as number),
      chunks: Array.from({ length: table.endOfChunks(row) - table.firstChunk(row) }, (_, i) => {
        const chunk = table.firstChunk(row) + i;
        const numbers = [chunks.fileOffsets, chunks.lengths, chunks.blobOffsets, chunks.innerOffsets].map((column) => column[chunk]);
        return [...numbers, chunks.zeros.has(chunk), digestTexts.get(chunks.digests[chunk] as number)];
      }),
    }));
  } catch (error) {
    if (isEstargzError(error)) return error.code;
    throw error;
  }
}

function join(...parts: readonly (string | Uint8Array)[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts.map((part) => (typeof part === "string" ? encoder.encode(part) : part))));
}

/** The same entries in a text that begins as writers begin it, and in one that JSON.parse gets as a whole. */
const bothWays = (entries: string | Uint8Array): [scanned: unknown, parsed: unknown] => [
  tableOf(join('{"version":1,"entries":[', entries, "]}")),
  tableOf(join('{"entries":[', entries, '],"version":1}')),
];

const file = (fields: string): string => `{"name":"f","type":"reg",${fields}}`;

describe("entries read straight from the bytes are those of JSON.parse", () => {
  it.each([
    ["no entry", ""],
    ["an empty object", "{}"],
    ["an escape in a name", String.raw`{"name":"a\u0062","type":"dir"}`],
    ["an escape in a key", String.raw`{"n\u0061me":"ab","type":"dir"}`],
    ["names that aren't ASCII", '{"name":"ünïcödé-日本語-🐳","type":"dir"}'],
    ["a key twice", '{"name":"a","type":"dir","name":"b","mode":1,"mode":2}'],
    ["unknown keys", '{"name":"a","type":"dir","x":{"y":["}","]",{}]},"z":"\\"}"}'],
    ["keys that others take for known ones", '{"name":"a","type":"dir","Mode":1}'],
    ["nothing but null", '{"name":"a","type":"dir","mode":null,"modtime":null,"xattrs":null,"uid":null}'],
    ["other types than expected", '{"name":1,"type":"dir"}'],
    ["a type that nobody knows", '{"name":"a","type":"regular"}'],
    ["no type", '{"name":"a"}'],
    ["no name", '{"type":"dir"}'],
    ["an empty name", '{"name":"","type":"dir"}'],
    ["numbers in other forms", file('"size":2e0,"mode":1.0,"uid":0,"digest":""')],
    ["a negative zero", file('"size":-0')],
    ["leading zeros", file('"size":01')],
    ["a number beyond 2^53", file('"size":9007199254740993')],
    ["many digits", file('"size":0,"mode":1234567890123456789012345678901234567890')],
    ["an owner beyond 32 bits", file('"uid":4294967296')],
    ["the largest owner", file('"uid":4294967295,"gid":4294967295')],
    ["a number without an end", file('"size":1.')],
    ["a digest in capitals", file(`"size":1,"digest":"${SHA.toUpperCase()}"`)],
    ["a digest that is short", file(`"size":1,"digest":"${SHA.slice(0, -1)}"`)],
    ["a digest of another algorithm", file(`"size":1,"digest":"sha512:${"ab".repeat(64)}","chunkDigest":"${SHA}"`)],
    ["two digests", file(`"size":1,"digest":"${SHA}","chunkDigest":"${OTHER_SHA}"`)],
    ["one digest twice", file(`"size":1,"chunkDigest":"${SHA}","digest":"${SHA}","offset":7,"innerOffset":8`)],
    ["a digest of a directory", `{"name":"d","type":"dir","digest":"x","size":5}`],
    ["chunks", `${file(`"size":9,"chunkSize":4,"chunkDigest":"${SHA}"`)},{"name":"f","type":"chunk","chunkOffset":4,"offset":3}`],
    ["zeros", file('"size":9,"chunkType":"zeros"')],
    ["a chunk of another type", file('"size":9,"chunkType":"ones."')],
    ["an empty chunk type", file('"size":9,"chunkType":""')],
    ["a chunk without a file", '{"name":"f","type":"chunk"}'],
    [
      "times",
      '{"name":"a","type":"dir","modtime":"2026-01-02T03:04:05Z"},{"name":"b","type":"dir","modtime":"2026-01-02T03:04:05Z"},{"name":"c","type":"dir"}',
    ],
    ["times of another form", '{"name":"a","type":"dir","modtime":"2026-01-02T03:04:05.25+02:00"},{"name":"b","type":"dir","modtime":""}'],
    [
      "xattrs",
      '{"name":"a","type":"dir","xattrs":{"user.a":"MQ==","user.b":""}},{"name":"b","type":"dir","xattrs":{"user.a":"MQ==","user.b":""}}',
    ],
    ["xattrs of other types", '{"name":"a","type":"dir","xattrs":{"user.a":null,"user.b":5}}'],
    ["xattrs that aren't base64", '{"name":"a","type":"dir","xattrs":{"user.a":"="}},{"name":"b","type":"dir","xattrs":{"user.a":"="}}'],
    ["xattrs with odd names", '{"name":"a","type":"dir","xattrs":{"__proto__":"MQ==","constructor":"Mg=="}}'],
    ["no xattrs", '{"name":"a","type":"dir","xattrs":{}}'],
    ["links and devices", '{"name":"l","type":"symlink","linkName":"/a"},{"name":"d","type":"char","devMajor":1,"devMinor":3}'],
    ["a directory with slashes", '{"name":"a/b//","type":"dir"},{"name":"./c/","type":"dir"},{"name":"/","type":"dir"}'],
    ["blanks everywhere", ' \t{ "name" :\n"a"\r,"type": "dir" , "mode" : 7 } \n,\t{"name":"b","type":"fifo"} '],
    ["a control character in a text", '{"name":"a\nb","type":"dir"}'],
    ["a comma at the end of an object", '{"name":"a","type":"dir",}'],
    ["a comma at the end of the list", '{"name":"a","type":"dir"},'],
    ["no comma between entries", '{"name":"a","type":"dir"}{"name":"b","type":"dir"}'],
    ["something that is no object", '5,{"name":"a","type":"dir"}'],
    ["a list in place of an entry", '[{"name":"a","type":"dir"}]'],
    ["an object that doesn't end", '{"name":"a","type":"dir"'],
    ["a text that doesn't end", '{"name":"a","type":"dir","x":"\\'],
    ["another key of the outer object", '],"tarSplitDigest":"x","more":['],
    ["the outer object's end in between", "]}"],
  ])("%s", (_name, entries) => {
    const [scanned, parsed] = bothWays(entries);
    expect(scanned).toEqual(parsed);
  });

  it("whatever is written, however it is formatted", () => {
    const value = fc.oneof(fc.nat(5000), fc.constantFrom<unknown>("a", "", "é", SHA, -1, 1.5, null, true, {}), fc.jsonValue());
    const entry = fc.record(
      {
        name: fc.oneof(fc.constantFrom<unknown>("a", "b/", "c/d", "c//", "../x", "."), value),
        type: fc.oneof(
          { weight: 9, arbitrary: fc.constantFrom<unknown>("reg", "dir", "chunk", "symlink", "fifo", "block") },
          { weight: 1, arbitrary: value },
        ),
        size: fc.oneof(fc.constant<unknown>(10), value),
        mode: fc.oneof(fc.nat(0o7777), value),
        modtime: fc.constantFrom<unknown>("2026-01-02T03:04:05Z", "2026-01-02T03:04:06Z", "nonsense", 5),
        digest: fc.constantFrom<unknown>(SHA, OTHER_SHA, "", "x"),
        chunkDigest: fc.constantFrom<unknown>(SHA, OTHER_SHA, null),
        chunkSize: fc.constantFrom<unknown>(5, 10, 0),
        chunkOffset: fc.constantFrom<unknown>(0, 5),
        xattrs: fc.oneof(fc.dictionary(fc.constantFrom("user.a", "ü"), fc.constantFrom<unknown>("MQ==", "", 5, null)), value),
        linkName: fc.constantFrom<unknown>("a", "é", ""),
        userName: fc.constantFrom<unknown>("root", 5),
      },
      { requiredKeys: ["type"] },
    );
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 5 }), fc.constantFrom(undefined, "\t", 2), (entries, indent) => {
        const [scanned, parsed] = bothWays(JSON.stringify(entries, undefined, indent).slice(1, -1));
        expect(scanned).toEqual(parsed);
      }),
      { numRuns: 2000 },
    );
  });

  it("of damaged texts both fail, or both read the same", () => {
    const sound = join(
      [
        `{"name":"a/","type":"dir","modtime":"2026-01-02T03:04:05Z","mode":493,"xattrs":{"user.a":"MQ=="}}`,
        `{"name":"a/f","type":"reg","size":10,"modtime":"2026-01-02T03:04:05Z","offset":12,"digest":"${SHA}","chunkDigest":"${SHA}"}`,
        String.raw`{"name":"g\u00e9","type":"reg","size":10,"chunkSize":5,"digest":"${SHA}","chunkDigest":"${SHA}"}`,
        `{"name":"g","type":"chunk","chunkOffset":5,"offset":99,"chunkDigest":"${OTHER_SHA}"}`,
      ].join(",\n\t"),
    );
    const interesting = encoder.encode('{}[]",:\\0129eE.-+ \n\u00e9aZ');
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(sound.length - 1), fc.nat(interesting.length - 1), fc.nat(2)), { minLength: 1, maxLength: 3 }),
        (changes) => {
          let bytes = sound;
          for (const [at, what, how] of changes) {
            const byte = interesting.subarray(what, what + 1);
            const place = Math.min(at, bytes.length);
            // Replaces a byte, puts one in, or takes one out.
            bytes = join(bytes.subarray(0, place), how === 2 ? "" : byte, bytes.subarray(how === 1 ? place : place + 1));
          }
          const [scanned, parsed] = bothWays(bytes);
          expect(typeof scanned === "string" ? "error" : scanned).toEqual(typeof parsed === "string" ? "error" : parsed);
        },
      ),
      { numRuns: 5000 },
    );
  });

  it("texts that are cut off anywhere are refused", () => {
    const whole = join(`{"version":1,"entries":[{"name":"a","type":"dir","xattrs":{"user.a":"MQ=="}},{"name":"b\\u0063","type":"fifo"}]}`);
    for (let length = 0; length < whole.length; length += 1) expect(tableOf(whole.subarray(0, length))).toBe("INVALID_TOC");
    expect(tableOf(whole)).toHaveLength(2);
  });
});

describe("what stands around the entries", () => {
  it.each([
    ["another version", '{"version":1,"entries":[],"version":2}'],
    ["a key that others take for the version", '{"version":1,"entries":[],"Version":1}'],
    ["a second list", '{"version":1,"entries":[{"name":"a","type":"dir"}],"entries":[]}'],
    ["a second list in front of the version", '{"entries":[{"name":"a","type":"dir"}],"x":["entries"],"entries":[],"version":1}'],
    ["a key that others take for a second list", '{"version":1,"entries":[],"ENTRIES":[]}'],
    ["more behind the end", '{"version":1,"entries":[]}x'],
  ])("%s is refused", (_name, text) => {
    expect(tableOf(encoder.encode(text))).toBe("INVALID_TOC");
  });

  it("a list that stands in front of the version is read, whatever is named like it further inside", () => {
    const inside = '"x":{"entries":[{"entries":"\\"entries\\":"}]},"y":"entries"';
    expect(tableOf(encoder.encode(`{${inside},"entries":[{"name":"a","type":"dir"}],"version":1}`))).toMatchObject([{ path: "a" }]);
  });

  it("tables grow with TOCs that have shorter entries than are expected", () => {
    const entries = Array.from({ length: 3000 }, (_, i) => `{"name":"${i}","type":"reg","size":${i},"offset":${i}}`).join(",");
    const [scanned, parsed] = bothWays(entries);
    expect(scanned).toEqual(parsed);
    expect(scanned).toHaveLength(3000);
    expect(scanned).toMatchObject({ 2999: { path: "2999", chunks: [[0, 2999, 2999, 0, false, undefined]] } });
  });
});

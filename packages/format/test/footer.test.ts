import { isEstargzError } from "@estargz/interface";
import { describe, expect, it } from "vitest";
import { concatBytes, hexOf } from "../src/bytes.ts";
import {
  encodeEstargzFooter,
  encodeExternalFooter,
  encodeLegacyFooter,
  encodeZstdFooter,
  type Footer,
  parseFooter,
} from "../src/footer.ts";

const SIZE = 1 << 20;

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    return isEstargzError(error) ? error.code : String(error);
  }
  return "no error";
}

function fromHex(hex: string): Uint8Array {
  return Uint8Array.from(hex.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16));
}

describe("footers", () => {
  it.each([
    [
      "estargz",
      encodeEstargzFooter(0x1234),
      "1f8b08040000000000ff1a00534716003030303030303030303030303132333453544152475a010000ffff0000000000000000",
    ],
    [
      "stargz",
      encodeLegacyFooter(0x1234),
      "1f8b08040000000000ff16003030303030303030303030303132333453544152475a010000ffff0000000000000000",
    ],
    ["external", encodeExternalFooter(), "1f8b08040000000000ff15005347110053544152475a45585445524e414c544f43010000ffff0000000000000000"],
    [
      "zstd",
      encodeZstdFooter({ tocOffset: 0x1234, tocPackedBytes: 100, tocBytes: 200 }),
      "502a4d182800000034120000000000006400000000000000c8000000000000000100000000000000476e556c496e5578",
    ],
  ])("%s is the reference's, byte by byte", (kind, bytes, hex) => {
    expect(hexOf(bytes)).toBe(hex);
    expect(parseFooter(bytes, SIZE).kind).toBe(kind);
  });

  it("keep every offset", () => {
    for (let offset = 0; offset <= 200_000; offset += 1023) {
      for (const [kind, encode] of [
        ["estargz", encodeEstargzFooter],
        ["stargz", encodeLegacyFooter],
      ] as const) {
        const tail = concatBytes([new Uint8Array(20), encode(offset)]);
        expect(parseFooter(tail, SIZE)).toEqual({ kind, footerBytes: encode(offset).length, tocOffset: offset });
      }
      const zstd = parseFooter(encodeZstdFooter({ tocOffset: offset + 8, tocPackedBytes: 3, tocBytes: 5 }), SIZE);
      expect(zstd).toMatchObject({ tocOffset: offset + 8, tocPackedBytes: 3, tocBytes: 5, payloadEnd: offset });
    }
  });

  it("are read in the current dialect of zstd:chunked, with its 64 bytes", () => {
    const numbers = [0x5000, 100, 300, 1, 0x6000, 50, 80];
    const body = new Uint8Array(64);
    numbers.forEach((value, i) => new DataView(body.buffer).setBigUint64(i * 8, BigInt(value), true));
    body.set(fromHex("474e556c496e5578"), 56);
    const tail = concatBytes([fromHex("502a4d1840000000"), body]);
    const expected: Footer = {
      kind: "zstd",
      footerBytes: 72,
      tocOffset: 0x5000,
      tocPackedBytes: 100,
      tocBytes: 300,
      payloadEnd: 0x5000 - 8,
    };
    expect(parseFooter(tail, SIZE)).toEqual(expected);
  });

  it.each([
    ["nothing", new Uint8Array(0), "NOT_ESTARGZ"],
    ["zeros", new Uint8Array(72), "NOT_ESTARGZ"],
    ["an empty gzip member", fromHex("1f8b08000000000000ff010000ffff0000000000000000"), "NOT_ESTARGZ"],
    [
      "an empty Extra field",
      concatBytes([new Uint8Array(40), fromHex("1f8b08040000000000ff0000010000ffff0000000000000000")]),
      "NOT_ESTARGZ",
    ],
    [
      "an Extra field of two bytes",
      concatBytes([new Uint8Array(40), fromHex("1f8b08040000000000ff02005347010000ffff0000000000000000")]),
      "NOT_ESTARGZ",
    ],
    ["a subfield of another length", encodeEstargzFooter(5).with(14, 21), "INVALID_FOOTER"],
    ["an offset that is no number", encodeEstargzFooter(5).with(20, 0x67), "INVALID_FOOTER"],
    ["an offset with a sign", encodeEstargzFooter(5).with(16, 0x2d), "INVALID_FOOTER"],
    ["an offset beyond the blob", encodeEstargzFooter(SIZE), "INVALID_FOOTER"],
    ["a zstd footer of another type", encodeZstdFooter({ tocOffset: 8, tocPackedBytes: 1, tocBytes: 1 }).with(32, 2), "INVALID_FOOTER"],
    ["a zstd footer without its frame", encodeZstdFooter({ tocOffset: 8, tocPackedBytes: 1, tocBytes: 1 }).with(0, 0), "INVALID_FOOTER"],
    ["a zstd TOC beyond the blob", encodeZstdFooter({ tocOffset: 8, tocPackedBytes: SIZE, tocBytes: 1 }), "INVALID_FOOTER"],
    ["a zstd offset of 64 bits", encodeZstdFooter({ tocOffset: 8, tocPackedBytes: 1, tocBytes: 1 }).with(15, 0xff), "INVALID_FOOTER"],
  ])("refuse %s", (_name, tail, code) => {
    expect(codeOf(() => parseFooter(tail, SIZE))).toBe(code);
  });
});

import { gzipSync, constants as zlib, zstdCompressSync } from "node:zlib";
import { type Codec, isEstargzError } from "@estargz/interface";
import { describe, expect, it } from "vitest";

const CONTENT = Uint8Array.from({ length: 300_000 }, (_, i) => (i % 251) ^ (i >> 10));
const NOISE = (() => {
  let state = 42;
  return Uint8Array.from({ length: 100_000 }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
    return state >>> 24;
  });
})();

function compress(name: Codec["name"], bytes: Uint8Array, level = 6): Uint8Array {
  return new Uint8Array(
    name === "gzip" ? gzipSync(bytes, { level }) : zstdCompressSync(bytes, { params: { [zlib.ZSTD_c_compressionLevel]: level } }),
  );
}

function concat(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    return isEstargzError(error) ? error.code : String(error);
  }
  return "no error";
}

/** The contract of `Codec`: the bytes asked for and no more, whatever stands behind them; typed errors for damage; bounded output. */
export function codecSuite(codec: Codec, label: string = codec.name): void {
  const packed = compress(codec.name, CONTENT);
  describe(`${label} as a Codec`, () => {
    it.each([1, 2, 1000, 65_536, 65_537, 300_000])("gives the first %i bytes", (length) => {
      expect(codec.decode(packed, length)).toEqual(CONTENT.subarray(0, length));
    });

    it.each([
      [1, 10],
      [65_535, 2],
      [65_536, 65_536],
      [299_999, 1],
      [123_456, 100_000],
    ])("skips %i bytes and gives %i", (skip, length) => {
      expect(codec.decode(packed, length, { skip })).toEqual(CONTENT.subarray(skip, skip + length));
    });

    it("gives nothing for a length of 0", () => {
      expect(codec.decode(new Uint8Array(0), 0).length).toBe(0);
    });

    it.each([0, 1, 9])("reads level %i", (level) => {
      expect(codec.decode(compress(codec.name, NOISE, Math.max(level, codec.name === "zstd" ? 1 : 0)), NOISE.length)).toEqual(NOISE);
    });

    it("leaves alone what follows the bytes asked for", () => {
      const garbage = Uint8Array.from({ length: 5000 }, () => 0xa5);
      expect(codec.decode(concat(packed, garbage), CONTENT.length)).toEqual(CONTENT);
      expect(codec.decode(concat(packed, packed), 1000)).toEqual(CONTENT.subarray(0, 1000));
    });

    it("reads through several members while output is missing", () => {
      const parts = [CONTENT.subarray(0, 1), CONTENT.subarray(1, 70_000), CONTENT.subarray(70_000)];
      const joined = concat(...parts.map((part) => compress(codec.name, part)));
      expect(codec.decode(joined, CONTENT.length)).toEqual(CONTENT);
      expect(codec.decode(joined, 10, { skip: 69_995 })).toEqual(CONTENT.subarray(69_995, 70_005));
    });

    it("passes over empty members", () => {
      const empty = compress(codec.name, new Uint8Array(0));
      expect(codec.decode(concat(empty, packed), 100)).toEqual(CONTENT.subarray(0, 100));
    });

    it.each([0, 1, 5, 12, 100, 500])("refuses input that is cut off after %i bytes", (length) => {
      expect(codeOf(() => codec.decode(packed.subarray(0, length), CONTENT.length))).toBe("INVALID_COMPRESSION");
    });

    it("refuses more output than there is", () => {
      expect(codeOf(() => codec.decode(packed, CONTENT.length + 1))).toBe("INVALID_COMPRESSION");
      expect(codeOf(() => codec.decode(packed, 1, { skip: CONTENT.length }))).toBe("INVALID_COMPRESSION");
    });

    it("refuses what is no compressed data", () => {
      expect(codeOf(() => codec.decode(NOISE, 100))).toBe("INVALID_COMPRESSION");
      expect(codeOf(() => codec.decode(new Uint8Array(1000), 100))).toBe("INVALID_COMPRESSION");
    });

    it("gives right or wrong bytes or a typed error for damaged input, and works afterwards", () => {
      for (let at = 0; at < packed.length; at += 37) {
        const damaged = packed.slice();
        damaged[at] = (damaged[at] as number) ^ 0x55;
        expect(["no error", "INVALID_COMPRESSION"]).toContain(codeOf(() => codec.decode(damaged, CONTENT.length)));
      }
      expect(codec.decode(packed, 100)).toEqual(CONTENT.subarray(0, 100));
    });

    it("does not produce a bomb's output", () => {
      const bomb = compress(codec.name, new Uint8Array(64 << 20), 9);
      const before = process.memoryUsage().arrayBuffers;
      const bytes = codec.decode(bomb, 1000);
      expect(bytes).toEqual(new Uint8Array(1000));
      // The window of a frame may be allocated, what the frame holds may not.
      expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(32 << 20);
    });
  });
}

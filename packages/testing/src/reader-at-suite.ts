import { isEstargzError, type ReaderAt } from "@estargz/interface";
import { afterEach, describe, expect, it } from "vitest";

/** How a `ReaderAt` under test is made. */
export interface ReaderAtSuiteOptions {
  /** Gives a new reader of a blob with this content. */
  open(content: Uint8Array): Promise<ReaderAt> | ReaderAt;
  /** Called after each test. */
  teardown?(): Promise<void> | void;
}

const CONTENT = Uint8Array.from({ length: 100_003 }, (_, i) => (i * 31 + (i >> 8)) & 0xff);

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    return isEstargzError(error) ? error.code : String(error);
  }
  return "no error";
}

/** The contract of `ReaderAt`: exact bytes or a typed error, never fewer; sizes; aborts. */
export function readerAtSuite(name: string, options: ReaderAtSuiteOptions): void {
  describe(`${name} as a ReaderAt`, () => {
    afterEach(async () => options.teardown?.());
    const open = async (content: Uint8Array = CONTENT): Promise<ReaderAt> => options.open(content);

    it.each([
      [0, 1],
      [0, 100_003],
      [100_002, 1],
      [4095, 2],
      [65_536, 30_000],
    ])("reads exactly the bytes from %i, %i of them", async (offset, length) => {
      expect(await (await open()).readAt(offset, length)).toEqual(CONTENT.subarray(offset, offset + length));
    });

    it.each([
      ["past the end", 100_000, 4],
      ["wholly past the end", 200_000, 1],
      ["at a negative offset", -1, 1],
      ["of a negative length", 0, -1],
      ["at half a byte", 0.5, 1],
      ["at an unsafe offset", 2 ** 53, 1],
      ["of no number", Number.NaN, 1],
    ])("refuses a read %s", async (_case, offset, length) => {
      expect(await codeOf((await open()).readAt(offset, length))).toBe("OUT_OF_RANGE");
    });

    it("refuses a read past the end once the size is known", async () => {
      const reader = await open();
      await reader.readTail(10);
      expect(await codeOf(reader.readAt(100_000, 4))).toBe("OUT_OF_RANGE");
    });

    it("gives nothing for a length of 0, at the end as well", async () => {
      const reader = await open();
      expect((await reader.readAt(0, 0)).length).toBe(0);
      expect((await reader.readAt(100_003, 0)).length).toBe(0);
    });

    it("reads the tail and learns the size", async () => {
      const reader = await open();
      expect(await reader.readTail(1000)).toEqual({ bytes: CONTENT.subarray(99_003), size: 100_003 });
      expect(reader.size).toBe(100_003);
    });

    it("gives the whole blob for a longer tail, and nothing of an empty one", async () => {
      expect(await (await open()).readTail(1 << 20)).toEqual({ bytes: CONTENT, size: 100_003 });
      const { bytes, size } = await (await open(new Uint8Array(0))).readTail(100);
      expect([bytes.length, size]).toEqual([0, 0]);
    });

    it("reads several ranges in the order asked for, overlapping and empty ones too", async () => {
      const ranges = [
        { offset: 90_000, length: 10 },
        { offset: 5, length: 20 },
        { offset: 10, length: 20 },
        { offset: 7, length: 0 },
        { offset: 25, length: 1 },
      ];
      const pieces = await (await open()).readRanges(ranges);
      expect(pieces).toEqual(ranges.map(({ offset, length }) => CONTENT.subarray(offset, offset + length)));
      expect(await (await open()).readRanges([])).toEqual([]);
    });

    it("rejects all ranges if one is past the end", async () => {
      const ranges = [
        { offset: 0, length: 10 },
        { offset: 100_000, length: 10 },
      ];
      expect(await codeOf((await open()).readRanges(ranges))).toBe("OUT_OF_RANGE");
    });

    it("gives buffers that belong to the caller", async () => {
      const reader = await open();
      const first = await reader.readAt(10, 100);
      first.fill(0);
      expect(await reader.readAt(10, 100)).toEqual(CONTENT.subarray(10, 110));
    });

    it("reads concurrently", async () => {
      const reader = await open();
      const offsets = Array.from({ length: 20 }, (_, i) => i * 4999);
      const pieces = await Promise.all(offsets.map((offset) => reader.readAt(offset, 4000)));
      expect(pieces).toEqual(offsets.map((offset) => CONTENT.subarray(offset, offset + 4000)));
    });

    it("rejects with the signal's own reason when aborted, and leaves others alone", async () => {
      const reader = await open();
      const reason = new Error("not wanted any more");
      await expect(reader.readAt(0, 10, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
      const controller = new AbortController();
      const mine = reader.readAt(0, 50_000, { signal: controller.signal });
      const theirs = reader.readAt(0, 50_000);
      controller.abort(reason);
      const outcome = await mine.then(
        (bytes) => bytes.length,
        (error: unknown) => error,
      );
      expect([50_000, reason]).toContain(outcome);
      expect(await theirs).toEqual(CONTENT.subarray(0, 50_000));
    });

    it("streams exactly the bytes asked for, if it streams", async () => {
      const reader = await open();
      const pieces: number[] = [];
      for await (const piece of reader.stream?.(1000, 80_000) ?? [await reader.readAt(1000, 80_000)]) pieces.push(...piece);
      expect(Uint8Array.from(pieces)).toEqual(CONTENT.subarray(1000, 81_000));
    });

    it("streams into memory that it is given, each byte at its place, or into memory of its own", async () => {
      const reader = await open();
      const into = new Uint8Array(new SharedArrayBuffer(90_000), 100, 89_000);
      const options = { into };
      let at = 0;
      for await (const piece of reader.stream?.(1000, 80_000, options) ?? [await reader.readAt(1000, 80_000)]) {
        if (piece.buffer === into.buffer) expect(piece.byteOffset).toBe(into.byteOffset + at);
        else into.set(piece, at);
        at += piece.length;
      }
      expect(at).toBe(80_000);
      expect(Uint8Array.from(into.subarray(0, at))).toEqual(CONTENT.subarray(1000, 81_000));
      expect(into.subarray(at).every((byte) => byte === 0)).toBe(true);
    });

    it("can be closed twice, and reads reject afterwards", async () => {
      const reader = await open();
      await reader.close?.();
      await reader.close?.();
      expect(reader.close === undefined ? "CLOSED" : await codeOf(reader.readAt(0, 1))).toBe("CLOSED");
    });
  });
}

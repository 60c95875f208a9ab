import { expect, test } from "vitest";
import { checkConvertOptions } from "../src/options.ts";

test.each([
  [{ chunkSizeBytes: 0 }, "chunkSizeBytes 0 must be a whole number from 1 to"],
  [{ minMemberBytes: 1.5 }, "minMemberBytes 1.5"],
  [{ level: 10 }, "level 10 must be a whole number from 0 to 9"],
  [{ level: 0, format: "zstd:chunked" as const }, "level 0 must be a whole number from 1 to 22"],
  [{ concurrency: 0 }, "concurrency 0"],
  [{ lossless: true, record: [{ path: "a" }] }, "lossless layers keep their order"],
])("%j is refused", (options, message) => {
  expect(() => checkConvertOptions(options)).toThrow(message);
});

test("defaults and bounds are accepted", () => {
  checkConvertOptions({});
  checkConvertOptions({ chunkSizeBytes: 512, level: 22, format: "zstd:chunked", lossless: false });
});

import fc from "fast-check";
import { expect, test } from "vitest";
import { decodeFirstUse, encodeFirstUse, FIRST_USE_ANNOTATION } from "../src/index.ts";

test("keeps the order in which runs were first used", () => {
  const text = encodeFirstUse([100, 101, 102, 7, 8, 500]);
  expect(decodeFirstUse(text, 1000)).toEqual([100, 101, 102, 7, 8, 500]);
  expect(text.length).toBeLessThan(20);
});

test("joins neighbours that were used at different times into one run", () => {
  expect(decodeFirstUse(encodeFirstUse([5, 50, 6, 4]), 100)).toEqual([4, 5, 6, 50]);
});

test("gives no chunk that the layer has not", () => {
  expect(decodeFirstUse(encodeFirstUse([1, 2, 90]), 3)).toEqual([1, 2]);
});

test("holds every recorded chunk of any record that is not too long", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(5000), { maxLength: 400 }), (chunks) => {
      const decoded = decodeFirstUse(encodeFirstUse(chunks), 5001);
      expect(decoded).toEqual(expect.arrayContaining(chunks));
      expect(new Set(decoded).size).toBe(decoded.length);
    }),
  );
});

test("always fits into a label, whatever is recorded", () => {
  const scattered = Array.from({ length: 20_000 }, (_, i) => (i * 7919) % 1_000_003);
  const text = encodeFirstUse(scattered);
  expect(text.length + FIRST_USE_ANNOTATION.length).toBeLessThanOrEqual(4096);
  expect(decodeFirstUse(text, 1_000_003)[0]).toBe(scattered[0]);
});

test.each([
  ["", "UNSUPPORTED"],
  ["%%%", "INVALID_ARGUMENT"],
  [btoa("\x02\x00"), "UNSUPPORTED"],
  [btoa("\x01\x00"), "INVALID_ARGUMENT"],
  [btoa("\x01\x01\x01"), "INVALID_ARGUMENT"],
  [btoa("\x01\x00\x00"), "INVALID_ARGUMENT"],
  [btoa(`\x01${"\xff".repeat(20)}`), "INVALID_ARGUMENT"],
  ["A".repeat(5000), "INVALID_ARGUMENT"],
])("refuses %j", (text, code) => {
  expect(() => decodeFirstUse(text, 10)).toThrow(expect.objectContaining({ code }));
});

test("a length beyond the layer costs nothing", () => {
  expect(decodeFirstUse(btoa("\x01\x00\xff\xff\xff\xff\x7f"), 3)).toEqual([0, 1, 2]);
});

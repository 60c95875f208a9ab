import { describe, expect, it } from "vitest";
import { bytesText, columns } from "../src/bytes-text.ts";

describe("bytesText", () => {
  it.each([
    [0, "0 B"],
    [999, "999 B"],
    [1000, "1.0 kB"],
    [75_340_000, "75.3 MB"],
    [123_456_789, "123 MB"],
    [5e15, "5000 TB"],
  ])("writes %d as %s", (bytes, text) => {
    expect(bytesText(bytes)).toBe(text);
  });
});

describe("columns", () => {
  it("aligns, and leaves no blanks at the end", () => {
    expect(
      columns(
        [
          ["a", "1", "x"],
          ["bbb", "22", ""],
        ],
        [1],
      ),
    ).toBe("a     1  x\nbbb  22\n");
  });
});

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseFilters } from "../src/filters.ts";
import type { SnapshotInfo } from "../src/index.ts";

const info: SnapshotInfo = {
  name: "default/1/sha256:abc",
  parent: "",
  kind: "committed",
  createdAtMs: 0,
  updatedAtMs: 0,
  labels: { "containerd.io/snapshot.ref": "sha256:abc", plain: "x", "with space": 'a "b"' },
};

describe("filters", () => {
  it.each([
    ['labels."containerd.io/snapshot.ref"==sha256:abc,parent==""', true],
    ['labels."containerd.io/snapshot.ref"==sha256:abd,parent==""', false],
    ["labels.plain", true],
    ["labels.other", false],
    ["labels.other!=x", true],
    ["labels.plain!=x", false],
    ["kind==committed", true],
    ["kind==active", false],
    ["name~=^default/", true],
    ["name~=/sha256:a.c$/", true],
    ["name~=|^k8s|", false],
    ['labels."with space"=="a \\"b\\""', true],
    ["unknown==x", false],
    ["name.more==x", false],
    ["kind == committed", true],
  ])("%s", (filter, expected) => {
    expect(parseFilters([filter])(info)).toBe(expected);
  });

  it("is any of several, and all without any", () => {
    expect(parseFilters([])(info)).toBe(true);
    expect(parseFilters(["kind==active", "labels.plain==x"])(info)).toBe(true);
  });

  it.each(["", "==x", "name=x", "name==", 'name=="x', "name==x,", "name==x y", "name~=(", "1name"])("refuses %j", (filter) => {
    expect(() => parseFilters([filter])).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
  });

  it("gives a filter or INVALID_ARGUMENT for any text, quickly", () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 60 }), (text) => {
        try {
          expect(typeof parseFilters([text])(info)).toBe("boolean");
        } catch (error) {
          expect(error).toMatchObject({ code: "INVALID_ARGUMENT" });
        }
      }),
      { numRuns: 500 },
    );
  });
});

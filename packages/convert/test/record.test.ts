import { describe, expect, it } from "vitest";
import { filesOfLayer, formatRecord, parseRecord } from "../src/record.ts";

describe("a record of first use", () => {
  it("is read as paths with comments", () => {
    expect(parseRecord("# start\n/usr/bin/node\n\n  ./srv/app.js  \nusr/bin/node\n")).toEqual([
      { path: "usr/bin/node" },
      { path: "srv/app.js" },
    ]);
  });

  it("is read as the JSON lines of ctr-remote, and written so", () => {
    const text =
      '{"path":"usr/bin/ls","manifestDigest":"sha256:aa","layerIndex":0}\n{"path":"etc/x","manifestDigest":"sha256:aa","layerIndex":1}\n';
    const files = parseRecord(text);
    expect(files[0]).toEqual({ path: "usr/bin/ls", manifestDigest: "sha256:aa", layerIndex: 0 });
    expect(formatRecord(files)).toBe(text);
  });

  it.each([
    ["{", "line 1 of the record is not JSON"],
    ['a\n{"path":1}', "line 2 of the record"],
    ['{"path":"a","layerIndex":-1}', "line 1"],
  ])("names the bad line of %j", (text, message) => {
    expect(() => parseRecord(text)).toThrow(message);
  });

  it("gives a layer its own files and those of any layer, once", () => {
    const files = parseRecord('{"path":"a","layerIndex":0}\n{"path":"b","layerIndex":1}\nc\na\n');
    expect(filesOfLayer(files, 0)).toEqual(["a", "c"]);
    expect(filesOfLayer(files, 1)).toEqual(["b", "c", "a"]);
  });

  it("leaves files of another image's manifest out", () => {
    const files = parseRecord('{"path":"a","layerIndex":0,"manifestDigest":"sha256:1"}\n');
    expect(filesOfLayer(files, 0, "sha256:1")).toEqual(["a"]);
    expect(filesOfLayer(files, 0, "sha256:2")).toEqual([]);
  });
});

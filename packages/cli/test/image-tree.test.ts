import type { EntryType, Layer, LayerEntry } from "@estargz/interface";
import { describe, expect, it } from "vitest";
import { createImageTree } from "../src/image-tree.ts";

/** A layer of names: `dir/`, `file`, `link -> target`. */
function layerOf(...names: string[]): Layer {
  const entries = new Map<string, LayerEntry>();
  const add = (path: string, type: EntryType, linkName = ""): void => {
    const slash = path.lastIndexOf("/");
    if (path !== "" && !entries.has(path.slice(0, Math.max(slash, 0)))) add(path.slice(0, Math.max(slash, 0)), "dir");
    if (!entries.has(path)) entries.set(path, { path, type, linkName } as LayerEntry);
  };
  add("", "dir");
  for (const name of names) {
    const [path = "", target] = name.split(" -> ");
    if (target !== undefined) add(path, "symlink", target);
    else if (path.endsWith("/")) add(path.slice(0, -1), "dir");
    else add(path, "reg");
  }
  const children = (entry: LayerEntry): { name: string; entry: LayerEntry }[] =>
    [...entries.values()]
      .filter(({ path }) => path !== "" && path.slice(0, Math.max(path.lastIndexOf("/"), 0)) === entry.path)
      .map((child) => ({ name: child.path.slice(child.path.lastIndexOf("/") + 1), entry: child }));
  return { root: entries.get(""), lookup: (path: string) => entries.get(path), children } as unknown as Layer;
}

function listing(tree: ReturnType<typeof createImageTree>, path: string): string[] {
  return tree.children(tree.find(path)).map(({ name }) => name);
}

describe("an image's layers as one tree", () => {
  it("shows the names of every layer, upper ones first", () => {
    const [lower, upper] = [layerOf("etc/a", "etc/b"), layerOf("etc/b", "usr/c")];
    const tree = createImageTree([lower, upper]);
    expect(listing(tree, "/")).toEqual(["etc", "usr"]);
    expect(listing(tree, "etc")).toEqual(["a", "b"]);
    expect(tree.find("etc/b").layer).toBe(upper);
    expect(tree.find("/etc/a").layer).toBe(lower);
  });

  it("applies whiteouts, and a name that is made again after one", () => {
    const tree = createImageTree([layerOf("a/x", "b/y", "c"), layerOf("a/.wh.x", ".wh.b", ".wh.c", "b/z"), layerOf("c")]);
    expect(listing(tree, "")).toEqual(["a", "b", "c"]);
    expect(listing(tree, "a")).toEqual([]);
    expect(listing(tree, "b")).toEqual(["z"]);
    expect(() => tree.find("a/x")).toThrow('the image has no "/a/x"');
  });

  it("applies opaque directories, at the root too", () => {
    const tree = createImageTree([layerOf("d/old", "e"), layerOf("d/.wh..wh..opq", "d/new")]);
    expect(listing(tree, "d")).toEqual(["new"]);
    expect(listing(createImageTree([layerOf("a"), layerOf(".wh..wh..opq", "b")]), "/")).toEqual(["b"]);
  });

  it("a file replaces a directory and the other way round", () => {
    expect(createImageTree([layerOf("x/in"), layerOf("x")]).find("x").entry.type).toBe("reg");
    const tree = createImageTree([layerOf("x/lowest"), layerOf("x"), layerOf("x/in")]);
    expect(listing(tree, "x")).toEqual(["in"]);
  });

  it("follows symlinks, absolute, relative and out of the root, but not for ever", () => {
    const tree = createImageTree([
      layerOf("usr/bin/sh", "bin -> usr/bin", "usr/lib/up -> ../bin", "abs -> /usr", "out -> ../../usr", "loop -> loop"),
    ]);
    expect(tree.find("bin/sh").path).toBe("usr/bin/sh");
    expect(tree.find("usr/lib/up/sh").path).toBe("usr/bin/sh");
    expect(tree.find("abs/bin/../bin/sh").path).toBe("usr/bin/sh");
    expect(tree.find("out/bin/sh").path).toBe("usr/bin/sh");
    expect(tree.find("bin", { followLast: false }).entry.type).toBe("symlink");
    expect(() => tree.find("loop")).toThrow("too many symbolic links");
    expect(() => tree.find("usr/bin/sh/x")).toThrow('the image has no "/usr/bin/sh/x"');
  });

  it("hides what belongs to the format", () => {
    expect(listing(createImageTree([layerOf(".prefetch.landmark", "stargz.index.json", "d/.prefetch.landmark")]), "")).toEqual(["d"]);
  });
});

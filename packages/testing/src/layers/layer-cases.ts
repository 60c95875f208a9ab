import type { Layer } from "@estargz/interface";
import { expect } from "vitest";
import { at, noise } from "./layer-expectations.ts";
import type { LayerSuiteWriteOptions } from "./layer-under-test.ts";
import type { TarSpec } from "./tar-builder.ts";

/** One case of the suite: what is written, with which options, and what has to hold besides that it reads back. */
export interface SuiteCase {
  readonly name: string;
  readonly specs: readonly TarSpec[];
  readonly options?: Partial<LayerSuiteWriteOptions>;
  check?(layer: Layer): void | Promise<void>;
}

/** Cases of writing and opening, by the names of the reference's tests where it has them. */
export const CASES: readonly SuiteCase[] = [
  { name: "empty", specs: [], check: (layer) => expect(layer.root.type).toBe("dir") },
  { name: "1dir_1empty_file", specs: [{ name: "foo/" }, { name: "foo/bar.txt" }] },
  {
    name: "1dir_1file",
    specs: [
      { name: "foo/" },
      { name: "foo/bar.txt", content: "This is the file", xattrs: { "user.bin": Uint8Array.of(0xff, 0, 0x76), "user.text": "x" } },
    ],
  },
  {
    name: "2meta_2file",
    specs: [
      { name: "bar/", uid: 1001, gid: 1001, userName: "u", groupName: "g" },
      { name: "foo/", uid: 1000, gid: 1000 },
      { name: "foo/bar.txt", content: "some content", uid: 1001, gid: 1001, userName: "u" },
    ],
  },
  {
    name: "3dir",
    specs: [{ name: "bar/" }, { name: "foo/" }, { name: "foo/bar/" }],
    check: (layer) => expect(["bar", "foo", "foo/bar"].map((path) => at(layer, path).linkCount)).toEqual([2, 3, 2]),
  },
  { name: "symlink", specs: [{ name: "foo/" }, { name: "foo/bar", type: "symlink", linkName: "../../x" }] },
  {
    name: "chunked_file",
    specs: [{ name: "foo/" }, { name: "foo/big.txt", content: "This is such a big file" }],
    options: { chunkSizeBytes: 4, minMemberBytes: 0 },
    async check(layer) {
      const file = at(layer, "foo/big.txt");
      expect(file.chunks.map((chunk) => chunk.length)).toEqual([4, 4, 4, 4, 4, 3]);
      const text = "This is such a big file";
      for (let from = 0; from <= text.length; from += 1) {
        expect(new TextDecoder().decode(await layer.readFile(file, from))).toBe(text.slice(from));
        expect(new TextDecoder().decode(await layer.readFile(file, from, 5))).toBe(text.slice(from, from + 5));
      }
    },
  },
  {
    name: "recursive",
    specs: [{ name: "/", mode: 0o755 }, { name: "bar/" }, { name: "bar/y.txt", content: "y" }],
    check: (layer) =>
      expect(
        layer
          .children(layer.root)
          .map(({ name }) => name)
          .filter((name) => !name.startsWith(".")),
      ).toEqual(["bar"]),
  },
  {
    name: "block_char_fifo",
    specs: [
      { name: "b", type: "block", devMajor: 123, devMinor: 456 },
      { name: "c", type: "char", devMajor: 111, devMinor: 222 },
      { name: "f", type: "fifo" },
    ],
  },
  {
    name: "modes",
    specs: [
      { name: "suid", content: "x", mode: 0o4755 },
      { name: "sgid/", mode: 0o2750 },
      { name: "sticky/", mode: 0o1777 },
      { name: "none", content: "x", mode: 0 },
    ],
  },
  {
    name: "hardlinks",
    specs: [
      { name: "foo/" },
      { name: "foo/foo1", content: "foofoo" },
      { name: "foo/foo2", type: "hardlink", linkName: "foo/foo1" },
      { name: "bar", type: "hardlink", linkName: "foo/foo2" },
      { name: "before", type: "hardlink", linkName: "foo/after" },
      { name: "foo/after", content: "later" },
    ],
    check(layer) {
      const file = at(layer, "foo/foo1");
      expect(at(layer, "foo/foo2")).toBe(file);
      expect(at(layer, "bar")).toBe(file);
      expect(file.linkCount).toBe(3);
      expect(layer.children(at(layer, "foo")).find(({ name }) => name === "foo2")?.entry).toBe(file);
      expect(layer.entries.filter((entry) => entry === file)).toHaveLength(1);
      expect(at(layer, "before")).toBe(at(layer, "foo/after"));
    },
  },
  {
    name: "implied parents",
    specs: [{ name: "usr/local/bin/x", content: "x" }],
    check: (layer) => expect(at(layer, "usr/local")).toMatchObject({ type: "dir", mode: 0o755, uid: 0, gid: 0, linkCount: 3, mtimeNs: 0n }),
  },
  {
    name: "duplicates",
    specs: [
      { name: "d/" },
      { name: "d/f", content: "first" },
      { name: "d/g", content: "file" },
      { name: "d/f", content: "second", mode: 0o600 },
      { name: "d/g", type: "symlink", linkName: "f" },
      { name: "d/", mode: 0o700 },
    ],
    async check(layer) {
      expect(new TextDecoder().decode(await layer.readFile(at(layer, "d/f")))).toBe("second");
      expect(at(layer, "d/f").mode).toBe(0o600);
      expect(at(layer, "d/g").type).toBe("symlink");
      expect(at(layer, "d").mode).toBe(0o700);
    },
  },
  {
    name: "whiteouts are ordinary files",
    specs: [{ name: "d/" }, { name: "d/.wh.gone" }, { name: "d/.wh..wh..opq" }],
    check: (layer) => expect(layer.children(at(layer, "d")).map(({ name }) => name)).toEqual([".wh..wh..opq", ".wh.gone"]),
  },
  {
    name: "various files with odd paths",
    specs: [
      { name: "bar/../bar///..foo", content: "x" },
      { name: "deep/./er/", mode: 0o711 },
    ],
    check: (layer) => expect([at(layer, "bar/..foo").size, at(layer, "/deep/er/").mode]).toEqual([1, 0o711]),
  },
  {
    name: "several_files_in_chunk",
    specs: [
      { name: "a", content: noise(3000) },
      { name: "b", content: noise(4000) },
      { name: "e" },
      { name: "c", content: noise(100_000) },
      { name: "d", content: "end" },
    ],
    options: { minMemberBytes: 8000 },
    check(layer) {
      expect(at(layer, "b").chunks[0]?.blobOffset).toBe(at(layer, "a").chunks[0]?.blobOffset);
      expect(at(layer, "b").chunks[0]?.innerOffset).toBeGreaterThan(0);
    },
  },
  {
    name: "several_files_in_chunk_chunked",
    specs: [
      { name: "a", content: noise(3000) },
      { name: "b", content: noise(70_000) },
      { name: "c", content: noise(20) },
    ],
    options: { minMemberBytes: 8000, chunkSizeBytes: 32_000 },
    check: (layer) => expect(at(layer, "b").chunks.map((chunk) => chunk.length)).toEqual([32_000, 32_000, 6000]),
  },
  {
    name: "longname",
    specs: [
      { name: `${"d".repeat(90)}/` },
      { name: `${"d".repeat(90)}/${"f".repeat(60)}`, content: "long" },
      { name: "link", type: "symlink", linkName: "t".repeat(90) },
    ],
  },
];

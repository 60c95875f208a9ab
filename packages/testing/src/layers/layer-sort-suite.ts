import { describe, expect, it } from "vitest";
import { at, cleanName, codeOf } from "./layer-expectations.ts";
import { type LayerSuiteOptions, type LayerUnderTest, NO_OPTIONS, type Opener } from "./layer-under-test.ts";
import { prefixed } from "./layer-variants.ts";
import { buildTar, type TarSpec } from "./tar-builder.ts";

const TREE: readonly TarSpec[] = [
  { name: "foo.txt", content: "foo" },
  { name: "bar/" },
  { name: "bar/baz.txt", content: "baz" },
  { name: "bar/bar.txt", content: "bar" },
  { name: "bar/link", type: "symlink", linkName: "baz.txt" },
  { name: "hard", type: "hardlink", linkName: "bar/bar.txt" },
  { name: "last/" },
  { name: `last/${"l".repeat(95)}`, content: "long" },
  { name: "dev", type: "char", devMajor: 1, devMinor: 3 },
];

const SORTS: readonly {
  readonly name: string;
  readonly specs: readonly TarSpec[];
  readonly log: readonly string[];
  readonly want: readonly string[];
}[] = [
  { name: "identical", specs: TREE, log: ["foo.txt", "bar/baz.txt"], want: ["foo.txt", "bar", "bar/baz.txt"] },
  { name: "shuffle_reg", specs: TREE, log: ["bar/bar.txt", "foo.txt"], want: ["bar", "bar/bar.txt", "foo.txt"] },
  { name: "shuffle_directory", specs: TREE, log: ["last/", "bar/"], want: ["last", "bar"] },
  { name: "shuffle_link", specs: TREE, log: ["bar/link", "bar/baz.txt"], want: ["bar", "bar/link", "bar/baz.txt"] },
  { name: "longname", specs: TREE, log: [`last/${"l".repeat(95)}`], want: ["last", `last/${"l".repeat(95)}`] },
  { name: "various_types", specs: TREE, log: ["dev", "bar/link"], want: ["dev", "bar", "bar/link"] },
  { name: "hardlink", specs: TREE, log: ["hard"], want: ["bar", "bar/bar.txt", "hard"] },
  {
    name: "duplicated_entry",
    specs: [
      { name: "f", content: "old" },
      { name: "x", content: "x" },
      { name: "f", content: "new" },
    ],
    log: ["f"],
    want: ["f"],
  },
  {
    name: "existing_landmark",
    specs: [
      { name: "x", content: "x" },
      { name: ".prefetch.landmark", content: "\u000f" },
      { name: "y", content: "y" },
    ],
    log: ["y"],
    want: ["y"],
  },
  {
    name: "existing_noprefetch_landmark",
    specs: [
      { name: ".no.prefetch.landmark", content: "\u000f" },
      { name: "x", content: "x" },
      { name: "y", content: "y" },
    ],
    log: ["y"],
    want: ["y"],
  },
  { name: "root entry", specs: [{ name: "./" }, { name: "a", content: "a" }, { name: "b", content: "b" }], log: ["b"], want: ["", "b"] },
];

/** Paths in the order of the tar inside of a layer. */
function order(layer: LayerUnderTest, subject: LayerSuiteOptions, compression: "gzip" | "zstd"): string[] {
  const tar = subject.decompress(layer.blob, compression);
  const names: string[] = [];
  let longName: string | undefined;
  for (let at = 0; at + 512 <= tar.length && tar[at] !== 0; ) {
    const text = (from: number, length: number): string =>
      new TextDecoder().decode(tar.subarray(at + from, at + from + length)).split("\0")[0] ?? "";
    const size = Number.parseInt(text(124, 12), 8) || 0;
    const flag = text(156, 1);
    if (flag === "L") longName = new TextDecoder().decode(tar.subarray(at + 512, at + 512 + size - 1));
    else if (flag === "x") {
      const records = new TextDecoder().decode(tar.subarray(at + 512, at + 512 + size));
      longName = /(?:^|\n)\d+ path=([^\n]*)\n/.exec(records)?.[1] ?? longName;
    } else {
      const prefix = text(257, 6) === "ustar" && text(345, 155) !== "" && longName === undefined ? `${text(345, 155)}/` : "";
      names.push(cleanName(longName ?? prefix + text(0, 100)));
      longName = undefined;
    }
    at += 512 + Math.ceil(size / 512) * 512;
  }
  return names;
}

/** What prioritised files have to do to the order. */
export function sortSuite(name: string, subject: LayerSuiteOptions, open: Opener): void {
  describe(`${name}: prioritised files`, () => {
    it.each(SORTS.map((item) => [item.name, item] as const))(
      "%s",
      async (_name, item) => {
        for (const prefix of ["", "./", "/", "../"] as const) {
          for (const logPrefix of ["", "./", "/", "../"] as const) {
            const compression = prefix === logPrefix ? "gzip" : "zstd";
            const written = await subject.write(buildTar(prefixed(item.specs, prefix), "gnu"), {
              ...NO_OPTIONS,
              compression,
              level: 3,
              prioritizedFiles: item.log.map((path) => logPrefix + path),
            });
            const names = order(written, subject, compression);
            const paths = item.specs.map((spec) => cleanName(prefix + spec.name)).filter((path) => !path.endsWith(".landmark"));
            const rest = paths.filter((path, i) => paths.lastIndexOf(path) === i && !item.want.includes(path));
            expect(names.filter((path) => path !== "stargz.index.json")).toEqual([...item.want, ".prefetch.landmark", ...rest]);
            const layer = await open(written);
            const landmark = at(layer, ".prefetch.landmark");
            expect(layer.prefetchEnd).toBe(landmark.chunks[0]?.blobOffset);
            for (const path of item.want)
              for (const chunk of at(layer, path).chunks) expect(chunk.blobOffset).toBeLessThan(layer.prefetchEnd ?? 0);
          }
        }
      },
      120_000,
    );

    it("refuses a path that does not exist", async () => {
      const tar = buildTar(TREE);
      expect(await codeOf(subject.write(tar, { ...NO_OPTIONS, prioritizedFiles: ["foo.txt", "no/such"] }))).toBe("NOT_FOUND");
    });

    it("lists paths that do not exist when they are allowed", async () => {
      const written = await subject.write(buildTar(TREE), {
        ...NO_OPTIONS,
        prioritizedFiles: ["no/such", "foo.txt", "nor/this"],
        allowMissingFiles: true,
      });
      expect(written.missingFiles).toEqual(["no/such", "nor/this"]);
      expect((await open(written)).lookup(".prefetch.landmark")).toBeDefined();
    });

    it("refuses hard links that lead to each other", async () => {
      const tar = buildTar([
        { name: "a", type: "hardlink", linkName: "b" },
        { name: "b", type: "hardlink", linkName: "a" },
      ]);
      expect(await codeOf(subject.write(tar, { ...NO_OPTIONS, prioritizedFiles: ["a"] }))).toBe("INVALID_TAR");
    });
  });
}

import fc from "fast-check";
import type { TarSpec } from "./tar-builder.ts";

const NAMES = [
  "a",
  "b",
  "usr",
  "bin",
  "lib",
  "ünïcödé",
  "日本",
  "🐳",
  "sp ace",
  "new\nline",
  'q"uote\\',
  "-",
  "...",
  ".wh.gone",
  "x".repeat(120),
  "<&>\u2028",
];

/** File contents: empty, small, sizes around those of blocks and chunks, compressible and not. */
export function contents(maxBytes = 20_000): fc.Arbitrary<Uint8Array> {
  const size = fc.oneof(fc.constantFrom(0, 1, 511, 512, 513, 4095, 4096, 4097), fc.integer({ min: 0, max: maxBytes }));
  return fc.tuple(size, fc.integer(), fc.boolean()).map(([bytes, seed, compressible]) => {
    let state = seed | 1;
    return Uint8Array.from({ length: bytes }, (_, i) => {
      if (compressible) return (i >> 6) & 0xff;
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
      return state >>> 24;
    });
  });
}

interface Node {
  readonly kind: "dir" | "reg" | "symlink" | "char" | "block" | "fifo" | "hardlink";
  readonly path: readonly number[];
  readonly content: Uint8Array;
  readonly meta: Pick<TarSpec, "mode" | "uid" | "gid" | "mtime" | "xattrs" | "devMajor" | "devMinor">;
  readonly target: number;
}

const meta: fc.Arbitrary<Node["meta"]> = fc.record({
  mode: fc.integer({ min: 0, max: 0o7777 }),
  uid: fc.constantFrom(0, 1, 1000, 2_097_151, 2_097_152, 4_294_967_295),
  gid: fc.constantFrom(0, 1, 1000, 4_294_967_295),
  mtime: fc.constantFrom(0, 1, 1_700_000_000, 4_294_967_296),
  devMajor: fc.integer({ min: 0, max: 4095 }),
  devMinor: fc.integer({ min: 0, max: 1 << 20 }),
  xattrs: fc.oneof(
    { weight: 4, arbitrary: fc.constant(undefined) },
    {
      weight: 1,
      arbitrary: fc.dictionary(fc.constantFrom("user.a", "user.ü", "security.capability"), fc.uint8Array({ maxLength: 40 }), {
        maxKeys: 2,
      }),
    },
  ),
});

const node: fc.Arbitrary<Node> = fc.record({
  kind: fc.constantFrom("dir", "dir", "reg", "reg", "reg", "reg", "symlink", "char", "block", "fifo", "hardlink"),
  path: fc.array(fc.nat(NAMES.length - 1), { minLength: 1, maxLength: 4 }),
  content: contents(),
  meta,
  target: fc.nat(1000),
});

/**
 * Any tree that an image's layer could hold, as entries of a tar: directories given or implied, every kind of file, hard links to
 * files before them, names of every sort. No two entries have one path, and no file is in a file.
 */
export function trees(maxEntries = 30): fc.Arbitrary<readonly TarSpec[]> {
  return fc.array(node, { maxLength: maxEntries }).map((nodes) => {
    const kinds = new Map<string, Node["kind"]>();
    const specs: TarSpec[] = [];
    for (const { kind, path, content, meta: attributes, target } of nodes) {
      const parts = path.map((index) => NAMES[index] as string);
      const name = parts.join("/");
      const parents = parts.slice(1).map((_, i) => parts.slice(0, i + 1).join("/"));
      if (kinds.has(name) || parents.some((parent) => (kinds.get(parent) ?? "dir") !== "dir")) continue;
      const files = [...kinds].filter(([, known]) => known === "reg");
      if (kind === "hardlink" && files.length === 0) continue;
      for (const parent of parents) if (!kinds.has(parent)) kinds.set(parent, "dir");
      kinds.set(name, kind);
      const links =
        kind === "hardlink" ? { linkName: files[target % files.length]?.[0] } : kind === "symlink" ? { linkName: `../${name}` } : {};
      specs.push({
        name: kind === "dir" ? `${name}/` : name,
        type: kind,
        ...links,
        ...(kind === "reg" ? { content } : {}),
        ...(kind === "hardlink" ? {} : attributes),
      });
    }
    return specs;
  });
}

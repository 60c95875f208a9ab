// Writes the seeds of the fuzzer: `node --conditions=@estargz/source fuzz/make-corpus.ts`. The names H1 to H11 are those of the
// hostile inputs that crash other readers.
import { mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { buildTar, paxEntry } from "@estargz/testing";
import { asciiBytes, concatBytes } from "../src/bytes.ts";
import { encodeEstargzFooter, encodeExternalFooter, encodeLegacyFooter, encodeZstdFooter } from "../src/footer.ts";
import { convertTar, type WriteLayerOptions } from "../src/index.ts";

function put(target: string, name: string, bytes: Uint8Array): void {
  const folder = fileURLToPath(new URL(`./corpus/${target}/`, import.meta.url));
  mkdirSync(folder, { recursive: true });
  writeFileSync(`${folder}${name}`, bytes);
}

const text = (value: unknown): Uint8Array => new TextEncoder().encode(typeof value === "string" ? value : JSON.stringify(value));
const toc = (...entries: unknown[]): Uint8Array => text({ version: 1, entries });
const gzip = (bytes: Uint8Array): Uint8Array => new Uint8Array(gzipSync(bytes));
const zstd = (bytes: Uint8Array): Uint8Array => new Uint8Array(zstdCompressSync(bytes));
const digest = `sha256:${"0".repeat(64)}`;

async function layer(options: WriteLayerOptions): Promise<Uint8Array> {
  const tar = buildTar([
    { name: "d/" },
    { name: "d/a", content: "hello", xattrs: { "user.x": "y" } },
    { name: "d/b", content: "x".repeat(900) },
    { name: "l", type: "symlink", linkName: "d" },
    { name: "h", type: "hardlink", linkName: "d/a" },
  ]);
  const parts: Uint8Array[] = [];
  for await (const bytes of convertTar(tar, { threads: 1, ...options }).bytes) parts.push(bytes);
  return concatBytes(parts);
}

/** A whole blob: a TOC and the footer that leads to it. */
function blobOfToc(json: Uint8Array): Uint8Array {
  const member = gzip(buildTar([{ name: "stargz.index.json", content: json }]));
  return concatBytes([gzip(new Uint8Array(512)), member, encodeEstargzFooter(gzip(new Uint8Array(512)).length)]);
}

const footer = encodeEstargzFooter(0x1234);
const withHex = (hex: string): Uint8Array => {
  const changed = footer.slice();
  changed.set(asciiBytes(hex), 16);
  return changed;
};
const shortExtra = concatBytes([
  Uint8Array.of(0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 4, 0),
  asciiBytes("SG"),
  Uint8Array.of(22, 0, 1, 0, 0, 0xff, 0xff),
  new Uint8Array(8),
]);

put("footer", "estargz", footer);
put("footer", "legacy", encodeLegacyFooter(0x1234));
put("footer", "external", encodeExternalFooter());
put("footer", "zstd", encodeZstdFooter({ tocOffset: 100, tocPackedBytes: 50, tocBytes: 200 }));
put("footer", "H1-extra-of-four-bytes", concatBytes([new Uint8Array(51), shortExtra]));
put("footer", "H2-negative-offset", withHex("-000000000000001"));
put("footer", "H3-offset-past-the-end", withHex("7fffffffffffffff"));
put("footer", "H4-gzip-header-without-extra", concatBytes([Uint8Array.of(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff), new Uint8Array(36)]));
put(
  "footer",
  "H7-huge-lengths",
  encodeZstdFooter({ tocOffset: 8, tocPackedBytes: Number.MAX_SAFE_INTEGER - 1, tocBytes: Number.MAX_SAFE_INTEGER }),
);

put("blob", "estargz", await layer({ chunkSizeBytes: 400 }));
put("blob", "packed", await layer({ minMemberBytes: 700 }));
put("blob", "zstd", await layer({ compression: "zstd" }));
put("blob", "external", await layer({ externalToc: true }));
put("blob", "H1-extra-of-four-bytes", concatBytes([await layer({}), shortExtra]));
put("blob", "H2-negative-offset", concatBytes([await layer({}), withHex("-000000000000001")]));
put("blob", "H3-offset-past-the-end", concatBytes([await layer({}), withHex("00000000000fffff")]));
put(
  "blob",
  "H4-gzip-header-without-extra",
  concatBytes([await layer({}), Uint8Array.of(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff), new Uint8Array(36)]),
);
put("blob", "H5-null", blobOfToc(text("null")));
put("blob", "H5-entries-null", blobOfToc(toc(null)));
put(
  "blob",
  "H7-huge-lengths",
  concatBytes([await layer({}), encodeZstdFooter({ tocOffset: 8, tocPackedBytes: 2 ** 50, tocBytes: 2 ** 50 })]),
);
put(
  "blob",
  "H10-toc-bomb",
  concatBytes([gzip(buildTar([{ name: "stargz.index.json", content: new Uint8Array(3 << 20).fill(32) }])), encodeEstargzFooter(0)]),
);

const file = { name: "a", type: "reg", size: 10, offset: 5, digest, chunkDigest: digest };
put(
  "toc",
  "ordinary",
  toc(
    { name: "d/", type: "dir", mode: 493, modtime: "2023-11-14T22:13:20Z" },
    { ...file, chunkSize: 4 },
    { name: "a", type: "chunk", offset: 9, chunkOffset: 4, chunkDigest: digest },
    { name: "l", type: "symlink", linkName: "a" },
    { name: "h", type: "hardlink", linkName: "a" },
    { name: "c", type: "char", devMajor: 1, xattrs: { "user.a": "AA==" } },
  ),
);
put(
  "toc",
  "zstd-chunked",
  toc(
    { ...file, chunkSize: 4, endOffset: 20, accesstime: "2023-11-14T22:13:20.5Z" },
    { name: "a", type: "chunk", chunkOffset: 4, chunkType: "zeros", chunkSize: 6 },
  ),
);
put("toc", "H5-null", text("null"));
put("toc", "H5-entries-null", toc(null));
put("toc", "H6-huge-size-tiny-chunks", toc({ ...file, size: Number.MAX_SAFE_INTEGER, chunkSize: 1 }));
put("toc", "H6-huge-zeros", toc({ ...file, size: Number.MAX_SAFE_INTEGER, chunkType: "zeros" }));
put("toc", "H8-hard-link-cycle", toc({ name: "a", type: "hardlink", linkName: "b" }, { name: "b", type: "hardlink", linkName: "a" }));
put("toc", "H8-hard-link-to-itself", toc({ name: "a", type: "hardlink", linkName: "a" }));
put("toc", "H8-hard-link-to-a-directory", toc({ name: "d/", type: "dir" }, { name: "d/x", type: "hardlink", linkName: "d" }));
put("toc", "H10-negative-chunk-size", toc({ ...file, chunkSize: -1 }));
put("toc", "H10-deep-path", toc({ name: "a/".repeat(3000), type: "dir" }));
put("toc", "H10-huge-xattr", toc({ name: "a", type: "dir", xattrs: { "user.a": "AAAA".repeat(50_000) } }));
put("toc", "H10-huge-chunk", toc({ ...file, size: 2 ** 40 }));
put("toc", "H11-version-999", text({ version: 999, entries: [] }));
put("toc", "H11-unknown-type", toc({ name: "a", type: "socket" }));
put("toc", "H11-duplicate-names", toc(file, { ...file, size: 3 }, { name: "a", type: "dir" }));
put("toc", "H11-offsets-out-of-order", toc({ ...file, offset: 900 }, { ...file, name: "b", offset: 5 }));
put(
  "toc",
  "V7-gap-between-chunks",
  toc({ ...file, chunkSize: 4 }, { name: "a", type: "chunk", offset: 9, chunkOffset: 5, chunkDigest: digest }),
);
put("toc", "near-key", toc({ ...file, Size: 3 }));

const tarSpecs = [
  { name: "d/" },
  { name: "d/a", content: "hello" },
  { name: "n".repeat(150), content: "x" },
  { name: "l", type: "symlink", linkName: "y".repeat(120) },
  { name: "c", type: "char", devMajor: 1, devMinor: 3 },
];
for (const flavour of ["ustar", "pax", "gnu"] as const)
  put("tar", flavour, buildTar(flavour === "ustar" ? tarSpecs.slice(0, 2) : tarSpecs, flavour));
put("tar", "global-header", concatBytes([...paxEntry(new Map([["uid", "7"]]), "g"), buildTar(tarSpecs)]));
put(
  "tar",
  "sparse-0.1",
  buildTar([{ name: "s", content: "ab", pax: { "GNU.sparse.size": "3000", "GNU.sparse.map": "10,1,2000,1", "GNU.sparse.name": "real" } }]),
);
put(
  "tar",
  "sparse-1.0",
  buildTar([
    {
      name: "s",
      content: concatBytes([text("2\n10\n1\n2000\n1\n"), new Uint8Array(498), text("ab")]),
      pax: { "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "3000", "GNU.sparse.name": "real" },
    },
  ]),
);
put("tar", "xattrs", buildTar([{ name: "a", content: "x", xattrs: { "user.k": Uint8Array.of(255, 0, 10) } }]));
put("tar", "gzip", gzip(buildTar(tarSpecs)));
put(
  "tar",
  "H9-hard-links-to-each-other",
  buildTar([
    { name: "a", type: "hardlink", linkName: "b" },
    { name: "b", type: "hardlink", linkName: "a" },
  ]),
);

const head = (codec: number, length: number, skip: number): Uint8Array =>
  Uint8Array.of(codec, length >> 8, length & 255, skip >> 8, skip & 255);
const content = text("some text that is compressed ".repeat(30));
put("member", "gzip", concatBytes([head(0, 100, 0), gzip(content)]));
put("member", "gzip-members", concatBytes([head(0, 900, 700), gzip(content), gzip(content)]));
put(
  "member",
  "gzip-names",
  concatBytes([
    head(0, 1, 0),
    Uint8Array.of(0x1f, 0x8b, 8, 0x1e, 0, 0, 0, 0, 0, 3, 2, 0, 1, 2, 97, 0, 98, 0, 0, 0),
    gzip(content).subarray(10),
  ]),
);
put("member", "zstd", concatBytes([head(1, 100, 0), zstd(content)]));
put(
  "member",
  "zstd-frames",
  concatBytes([head(1, 900, 700), zstd(content), Uint8Array.of(0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 1, 2), zstd(content)]),
);

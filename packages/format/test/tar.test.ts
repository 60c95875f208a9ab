import { isEstargzError } from "@estargz/interface";
import { buildTar, paxEntry, type TarSpec } from "@estargz/testing";
import { extract, pack } from "tar-stream";
import { describe, expect, it } from "vitest";
import { concatBytes } from "../src/bytes.ts";
import { convertTar, directory, file, fromBytes, openLayer, readTar, symlink, type TarHeader, writeTar } from "../src/index.ts";

interface Read {
  readonly header: TarHeader;
  readonly content: string;
  readonly needsNewHead: boolean;
}

async function* pieces(bytes: Uint8Array, size = 700): AsyncIterable<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function read(tar: Uint8Array): Promise<Read[]> {
  const entries: Read[] = [];
  for await (const item of readTar(pieces(tar))) {
    if (item.kind !== "entry") continue;
    const parts: Uint8Array[] = [];
    for await (const piece of item.payload) parts.push(piece.slice());
    entries.push({ header: item.header, content: new TextDecoder().decode(concatBytes(parts)), needsNewHead: item.needsNewHead });
  }
  return entries;
}

async function codeOf(run: Promise<unknown>): Promise<string> {
  return run.then(
    () => "no error",
    (error: unknown) => (isEstargzError(error) ? error.code : String(error)),
  );
}

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

/** Sets the checksum of the first header again after it was changed. */
function resum(tar: Uint8Array): Uint8Array {
  tar.fill(0x20, 148, 156);
  const sum = tar.subarray(0, 512).reduce((total, byte) => total + byte, 0);
  tar.set(text(`${sum.toString(8).padStart(6, "0")}\0 `), 148);
  return tar;
}

describe("tar flavours", () => {
  const specs: TarSpec[] = [
    { name: "d/", mtime: 1_700_000_000 },
    { name: "d/f", content: "content", uid: 1000, gid: 2000, userName: "u", groupName: "g", mode: 0o4755 },
    { name: `${"long/".repeat(19)}name`, content: "x" },
    { name: "l", type: "symlink", linkName: "d/f" },
    { name: "c", type: "char", devMajor: 5, devMinor: 1 },
  ];

  it.each(["ustar", "pax", "gnu"] as const)("reads %s", async (flavour) => {
    const entries = await read(buildTar(specs, flavour));
    expect(entries.map(({ header }) => header.name)).toEqual(specs.map(({ name }) => name));
    expect(entries[1]).toMatchObject({
      content: "content",
      header: { uid: 1000, gid: 2000, userName: "u", groupName: "g", mode: 0o4755, size: 7 },
    });
    expect(entries[4]?.header).toMatchObject({ kind: "char", devMajor: 5, devMinor: 1 });
  });

  it("reads names of any length in PAX and GNU", async () => {
    for (const flavour of ["pax", "gnu"] as const) {
      const name = `${"ü".repeat(120)}/${"n".repeat(300)}`;
      const [entry] = await read(buildTar([{ name, type: "symlink", linkName: name, uid: 4_000_000_000 }], flavour));
      expect(entry?.header).toMatchObject({ name, linkName: name, uid: 4_000_000_000 });
    }
  });

  it("applies PAX times, xattrs with any bytes, and sizes", async () => {
    const pax = { mtime: "-1.25", uname: "üser" };
    const [entry] = await read(buildTar([{ name: "f", content: "x", pax, xattrs: { "user.k": Uint8Array.of(0xff, 0x0a, 0x3d) } }]));
    expect(entry?.header).toMatchObject({ mtime: { seconds: -2, nanoseconds: 750_000_000 }, userName: "üser" });
    expect(entry?.header.xattrs.get("user.k")).toEqual(Uint8Array.of(0xff, 0x0a, 0x3d));
  });

  it("applies global headers, and says that the header has to be written anew", async () => {
    const tar = concatBytes([
      ...paxEntry(
        new Map([
          ["uid", "77"],
          ["comment", "x"],
        ]),
        "g",
      ),
      buildTar([{ name: "a" }, { name: "b", pax: { uid: "5" } }]),
    ]);
    const entries = await read(tar);
    expect(entries.map(({ header, needsNewHead }) => [header.uid, needsNewHead])).toEqual([
      [77, true],
      [5, true],
    ]);
    const layer = await convert(tar);
    expect(layer.lookup("a")?.uid).toBe(77);
    await layer.verify("full");
  });

  it("takes type 7 for a file, skips volume labels, and refuses what nobody knows", async () => {
    const entries = await read(
      buildTar([
        { name: "label", type: "V" },
        { name: "f", type: "7", content: "x" },
      ]),
    );
    expect(entries.map(({ header }) => [header.name, header.kind])).toEqual([["f", "reg"]]);
    expect(await codeOf(read(buildTar([{ name: "f", type: "Z" }])))).toBe("UNSUPPORTED");
  });

  it("takes a name with a slash at its end for a directory in the oldest tars", async () => {
    const [entry] = await read(buildTar([{ name: "old/", type: "\0" }]));
    expect(entry?.header.kind).toBe("dir");
  });

  it.each([
    ["PAX 0.0", { "GNU.sparse.size": "20", "GNU.sparse.numblocks": "2", "GNU.sparse.map": "2,3,10,4" }, "abcdefg"],
    ["PAX 0.1", { "GNU.sparse.size": "20", "GNU.sparse.map": "2,3,10,4", "GNU.sparse.name": "f" }, "abcdefg"],
    [
      "PAX 1.0",
      { "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "20", "GNU.sparse.name": "f" },
      `${"2\n2\n3\n10\n4\n".padEnd(512, "\0")}abcdefg`,
    ],
  ])("expands sparse files of %s", async (_name, pax, content) => {
    const tar = buildTar([{ name: "f", content, pax }]);
    const [entry] = await read(tar);
    const expected = "\0\0abc\0\0\0\0\0defg\0\0\0\0\0\0";
    expect(entry).toMatchObject({ content: expected, header: { name: "f", size: 20 }, needsNewHead: true });
    const layer = await convert(tar);
    expect(new TextDecoder().decode(await layer.readFile(layer.lookup("f")!))).toBe(expected);
    expect(await codeOf(layer.verify("full"))).toBe("no error");
  });

  it("reads a long map of PAX 1.0 in one go, and refuses one without an end", async () => {
    const pax = { "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "200000", "GNU.sparse.name": "f" };
    const map = `${50_000}\n${Array.from({ length: 50_000 }, (_, i) => `${i * 4}\n1\n`).join("")}`;
    const content = `${map.padEnd(Math.ceil(map.length / 512) * 512, "\0")}${"x".repeat(50_000)}`;
    const [entry] = await read(buildTar([{ name: "f", content, pax }]));
    expect(entry?.content).toBe("x\0\0\0".repeat(50_000));
    expect(await codeOf(read(buildTar([{ name: "f", content: map.slice(0, 300_000), pax }])))).toBe("INVALID_TAR");
  });

  it("expands sparse files of GNU, with maps that go on in blocks of their own", async () => {
    const tar = buildTar([{ name: "f", type: "S", content: "abcdefg" }], "gnu");
    const header = tar.slice(0, 512);
    const put = (block: Uint8Array, at: number, value: number): void => block.set(text(value.toString(8).padStart(11, "0")), at);
    put(header, 386, 2);
    put(header, 398, 3);
    header[482] = 1;
    put(header, 483, 20);
    const extension = new Uint8Array(512);
    put(extension, 0, 10);
    put(extension, 12, 4);
    const [entry] = await read(concatBytes([resum(header), extension, tar.subarray(512)]));
    expect(entry).toMatchObject({ content: "\0\0abc\0\0\0\0\0defg\0\0\0\0\0\0", header: { size: 20 } });
  });

  it.each([
    ["a wrong checksum", (tar: Uint8Array) => void (tar[0] = 0x41)],
    [
      "a size that is no number",
      (tar: Uint8Array) => {
        tar.set(text("zzzzzzzzzzz"), 124);
        resum(tar);
      },
    ],
  ])("refuses %s", async (_name, damage) => {
    const tar = buildTar([{ name: "f", content: "x" }]);
    damage(tar);
    expect(await codeOf(read(tar))).toBe("INVALID_TAR");
  });

  it.each([100, 513, 1000])("refuses a tar that is cut off after %i bytes", async (length) => {
    expect(await codeOf(read(buildTar([{ name: "f", content: "x".repeat(1000) }]).subarray(0, length)))).toBe("INVALID_TAR");
  });

  it("refuses names that aren't UTF-8, since no TOC can hold them", async () => {
    const tar = buildTar([{ name: "x__", content: "x" }]);
    tar.set([0xff, 0xfe], 1);
    expect(await codeOf(convert(resum(tar)))).toBe("UNSUPPORTED");
  });

  it("needs no end mark", async () => {
    expect(await read(buildTar([{ name: "f", content: "x" }], "pax", 0))).toHaveLength(1);
  });
});

async function convert(tar: Uint8Array): Promise<Awaited<ReturnType<typeof openLayer>>> {
  const output = convertTar(tar, { threads: 1 });
  const parts: Uint8Array[] = [];
  for await (const bytes of output.bytes) parts.push(bytes);
  return openLayer(fromBytes(concatBytes(parts)), { annotations: (await output.result).annotations });
}

describe("tar-stream", () => {
  it("reads what writeTar writes", async () => {
    const names: string[] = [];
    const parser = extract();
    parser.on("entry", (header, stream, next) => {
      names.push(
        `${header.type} ${header.name} ${header.size} ${(header.pax as Record<string, string> | null | undefined)?.["SCHILY.xattr.user.x"] ?? ""}`,
      );
      stream.on("end", next);
      stream.resume();
    });
    const done = new Promise<void>((resolve, reject) => parser.on("finish", () => resolve()).on("error", reject));
    const long = `${"ü".repeat(90)}/f`;
    for await (const bytes of writeTar([directory("d"), file(long, "four", { xattrs: { "user.x": "y" } }), symlink("l", "d")]))
      parser.write(Buffer.from(bytes));
    parser.end(Buffer.alloc(0));
    await done;
    expect(names).toEqual(["directory d/ 0 ", `file ${long} 4 y`, "symlink l 0 "]);
  });

  it("writes what readTar reads, and what convertTar takes as a stream", async () => {
    const packer = pack();
    packer.entry({ name: "dir", type: "directory", mode: 0o700 });
    packer.entry({ name: "dir/ünïcödé", uid: 10, mtime: new Date(5000) }, "content");
    packer.entry({ name: "link", type: "symlink", linkname: "dir" });
    packer.finalize();
    const parts: Uint8Array[] = [];
    for await (const bytes of convertTar(packer as unknown as AsyncIterable<Uint8Array>, { threads: 1 }).bytes) parts.push(bytes);
    const layer = await openLayer(fromBytes(concatBytes(parts)), { allowUnverified: true });
    expect(layer.lookup("dir/ünïcödé")).toMatchObject({ uid: 10, size: 7, mtimeNs: 5_000_000_000n });
    expect(layer.lookup("dir")).toMatchObject({ type: "dir", mode: 0o700 });
    expect(layer.lookup("link")).toMatchObject({ linkName: "dir" });
  });
});

import { Worker } from "node:worker_threads";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { buildLayerIndex, dataFilePath, type LayerIndex, loadLayerIndex } from "../src/index.ts";
import { makeLayer, type TestEntry } from "./memory-layer.ts";

const text = (bytes: Uint8Array | undefined): string | undefined => (bytes === undefined ? undefined : Buffer.from(bytes).toString());
const names = (index: LayerIndex, inode: number): (string | undefined)[] =>
  Array.from({ length: index.childCount(inode) }, (_, position) => text(index.childName(inode, position)));
const find = (index: LayerIndex, path: string): number =>
  path
    .split("/")
    .filter((part) => part !== "")
    .reduce((inode, part) => (inode < 0 ? -1 : index.lookup(inode, Buffer.from(part))), 0);

const tree: TestEntry[] = [
  { path: ".prefetch.landmark", content: "x" },
  { path: "bin", type: "dir", mode: 0o1777, uid: 1, gid: 70_000, mtimeNs: -1_500_000_000n },
  { path: "bin/tool", content: "0123456789".repeat(1000), mode: 0o4755, xattrs: { "security.capability": "cap", "user.a": "" } },
  { path: "bin/link", type: "symlink", link: "../etc/ä" },
  { path: "bin/hard", type: "hardlink", link: "bin/tool" },
  { path: "dev/tty", type: "char", device: [5, 300] },
  { path: "dev/pipe", type: "fifo" },
  { path: "etc/.wh.gone", content: "" },
  { path: "etc/.wh.kept", content: "" },
  { path: "etc/.wh..", content: "" },
  { path: "etc/.wh...", content: "" },
  { path: "etc/kept", content: "k" },
  { path: "opt/.wh..wh..opq", content: "" },
  { path: "opt/file", content: "" },
  { path: "big", content: Buffer.alloc(5 * 1024 * 1024, 7) },
];

describe("LayerIndex", () => {
  const { layer } = makeLayer(tree);
  const index = buildLayerIndex(layer);

  it("shows attributes, links, devices and xattrs", () => {
    const tool = find(index, "bin/tool");
    expect(index.mode(tool)).toBe(0o104755);
    expect(index.size(tool)).toBe(10_000);
    expect(index.linkCount(tool)).toBe(2);
    expect(find(index, "bin/hard")).toBe(tool);
    expect(text(index.xattr(tool, Buffer.from("security.capability")))).toBe("cap");
    expect(text(index.xattr(tool, Buffer.from("user.a")))).toBe("");
    expect(index.xattr(tool, Buffer.from("user.b"))).toBeUndefined();
    expect(text(index.xattrNames(tool))).toBe("security.capability\0user.a\0");
    const bin = find(index, "bin");
    expect([index.mode(bin), index.uid(bin), index.gid(bin), index.mtimeSeconds(bin), index.mtimeNanoseconds(bin)]).toEqual([
      0o041777, 1, 70_000, -2, 500_000_000,
    ]);
    expect(text(index.link(find(index, "bin/link")))).toBe("../etc/ä");
    expect(index.size(find(index, "bin/link"))).toBe(9);
    expect(index.mode(find(index, "bin/link"))).toBe(0o120777);
    expect(index.rdev(find(index, "dev/tty"))).toBe((300 & 0xff) | (5 << 8) | ((300 & ~0xff) << 12));
    expect(index.parent(tool)).toBe(bin);
  });

  it("turns whiteouts into devices 0/0 and opaque markers into xattrs, and hides landmarks", () => {
    expect(names(index, 0)).toEqual(["big", "bin", "dev", "etc", "opt"]);
    expect(names(index, find(index, "etc"))).toEqual(["gone", "kept"]);
    const gone = find(index, "etc/gone");
    expect([index.mode(gone), index.rdev(gone), index.size(gone), index.linkCount(gone)]).toEqual([0o020000, 0, 0, 1]);
    expect(index.isRegular(find(index, "etc/kept"))).toBe(true);
    const opt = find(index, "opt");
    expect(names(index, opt)).toEqual(["file"]);
    for (const name of ["trusted.overlay.opaque", "user.overlay.opaque"]) expect(text(index.xattr(opt, Buffer.from(name)))).toBe("y");
    expect(find(index, "opt/.wh..wh..opq")).toBe(-1);
    expect(find(index, ".prefetch.landmark")).toBe(-1);
  });

  it("finds the state directory without listing it", () => {
    const state = index.lookup(0, Buffer.from(".stargz-snapshotter"));
    expect(state).toBe(index.stateDirectory);
    expect(names(index, state)).toHaveLength(1);
    expect(index.chunkIsVirtual(index.firstChunk(index.stateFile))).toBe(true);
  });

  it("finds chunks and places of data", () => {
    const tool = find(index, "bin/tool");
    expect(index.chunksOf(tool)).toBe(3);
    expect([0, 4095, 4096, 9999].map((offset) => index.chunkAt(tool, offset) - index.firstChunk(tool))).toEqual([0, 0, 1, 2]);
    expect(index.chunkAt(tool, 10_000)).toBe(-1);
    expect(index.chunkAt(find(index, "opt/file"), 0)).toBe(-1);
    expect(index.dataOffset(tool) % 4096).toBe(0);
    const big = find(index, "big");
    expect(index.hasOwnFile(big)).toBe(true);
    expect(dataFilePath("/d/data", index, big)).toBe(`/d/data.${big}`);
    expect(index.dataBytes).toBe(5 * 4096); // landmark, tool and "kept"
    for (const chunk of layer.chunks) {
      expect(index.chunkBlobOffset(chunk.index)).toBe(chunk.blobOffset);
      expect(index.chunkSpanLength(chunk.index)).toBe(layer.span(chunk).length);
      expect(Buffer.from(index.chunkDigest(chunk.index) ?? []).toString("hex")).toBe(chunk.digest?.slice(7));
    }
  });

  it("is read by another thread without a copy", async () => {
    const source = `
      const { parentPort, workerData } = require("node:worker_threads");
      import(workerData.module).then(({ LayerIndex }) => {
        const index = LayerIndex.over(workerData.buffer);
        parentPort.postMessage(index.size(index.lookup(index.lookup(0, Buffer.from("bin")), Buffer.from("tool"))));
      });`;
    const module = new URL("../src/layer-index.ts", import.meta.url).href;
    const worker = new Worker(source, {
      eval: true,
      workerData: { buffer: index.buffer, module },
      execArgv: ["--conditions=@estargz/source"],
    });
    const size = await new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
    await worker.terminate();
    expect(size).toBe(10_000);
  });

  it("is the same after loading, and refuses every damaged byte", () => {
    const copy = new SharedArrayBuffer(index.buffer.byteLength);
    new Uint8Array(copy).set(new Uint8Array(index.buffer));
    expect(find(loadLayerIndex(copy), "bin/hard")).toBe(find(index, "bin/hard"));
    fc.assert(
      fc.property(fc.nat(copy.byteLength - 1), fc.integer({ min: 1, max: 255 }), (at, bits) => {
        const bytes = new Uint8Array(copy);
        bytes[at] = (bytes[at] ?? 0) ^ bits;
        expect(() => loadLayerIndex(copy)).toThrow(/damaged/u);
        bytes[at] = (bytes[at] ?? 0) ^ bits;
      }),
      { numRuns: 100 },
    );
    expect(() => loadLayerIndex(new SharedArrayBuffer(100))).toThrow(/damaged/u);
  });

  it("takes at most 64 bytes an inode besides names, chunks and the header", () => {
    const many = Array.from({ length: 2000 }, (_, file) => ({ path: `d${file % 40}/file-${file}`, content: "" }));
    const packed = buildLayerIndex(makeLayer(many).layer);
    const nameBytes = many.reduce((sum, file) => sum + file.path.length, 0);
    expect(packed.buffer.byteLength - 256 - nameBytes - 65).toBeLessThanOrEqual(packed.inodeCount * 64 + 200);
  });

  it("finds exactly the names that are there, in byte order", () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(
          fc.string({ minLength: 1, maxLength: 8, unit: "grapheme" }).filter((name) => !/[/\0]/u.test(name) && !name.startsWith(".")),
          { maxLength: 40 },
        ),
        (list) => {
          const random = buildLayerIndex(makeLayer(list.map((name) => ({ path: `d/${name}`, content: "" }))).layer);
          const directory = find(random, "d");
          const sorted = list.map((name) => Buffer.from(name)).sort((a, b) => Buffer.compare(a, b));
          expect(directory < 0 ? [] : names(random, directory)).toEqual(sorted.map(String));
          for (const name of list) expect(random.lookup(directory, Buffer.from(name))).toBeGreaterThan(0);
          expect(random.lookup(0, Buffer.from("no such name"))).toBe(-1);
        },
      ),
      { numRuns: 50 },
    );
  });
});

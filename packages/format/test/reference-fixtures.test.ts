import { createHash } from "node:crypto";
import type { Layer, LayerEntry } from "@estargz/interface";
import { describe, expect, it } from "vitest";
import { encodeBase64 } from "../src/bytes.ts";
import { fromBytes, openLayer, openLayerFromToc } from "../src/index.ts";
import { type FixtureBlob, type FixtureEntry, fixtureBlobs, fixtureBytes, fixtureJson } from "./fixtures.ts";

/** What the reference's reader gets wrong, with the right value: `blob path field`. */
const REFERENCE_ERRORS: Readonly<Record<string, unknown>> = {
  // Directories named in the root are counted only where they were made before the root's own entry.
  "dotslash.default  nlink": 4,
  "dotslash.prio  nlink": 4,
};

async function openFixture(blob: FixtureBlob & { file: string }): Promise<Layer> {
  return openLayer(fromBytes(fixtureBytes(blob.file)), {
    tocDigest: blob.tocDigest,
    allowUnverified: blob.tocDigest === undefined,
    annotations: blob.manifestAnnotations,
    externalToc: async () => fixtureBytes(`${blob.file}.exttoc`),
  });
}

async function describeEntry(layer: Layer, path: string, entry: LayerEntry, theirs: FixtureEntry): Promise<Record<string, unknown>> {
  const chunks = entry.chunks.map((chunk) => ({
    chunkOffset: chunk.fileOffset,
    chunkSize: chunk.length,
    digest: chunk.digest,
    offset: chunk.blobOffset,
  }));
  return {
    path,
    type: entry.type,
    mode: entry.mode.toString(8),
    uid: entry.uid,
    gid: entry.gid,
    size: entry.type === "symlink" ? 0 : entry.size,
    nlink: entry.linkCount,
    // The reference shows a missing time as year 1.
    mtime:
      theirs.mtime.startsWith("0001-") && entry.mtimeNs === 0n
        ? theirs.mtime
        : `${new Date(Number(entry.mtimeNs / 1_000_000n)).toISOString().slice(0, 19)}Z`,
    ...(entry.type === "symlink" ? { link: entry.linkName } : {}),
    ...(entry.type === "char" || entry.type === "block" ? { dev: [entry.devMajor, entry.devMinor] } : {}),
    ...(entry.type === "reg"
      ? {
          content_sha256: createHash("sha256")
            .update(await layer.readFile(entry))
            .digest("hex"),
        }
      : {}),
    ...(entry.xattrs.size > 0 ? { xattrs: Object.fromEntries([...entry.xattrs].map(([name, value]) => [name, encodeBase64(value)])) } : {}),
    ...(chunks.length > 0 ? { chunks } : {}),
  };
}

function walk(layer: Layer): Map<string, LayerEntry> {
  const found = new Map<string, LayerEntry>([["", layer.root]]);
  const visit = (entry: LayerEntry, prefix: string): void => {
    for (const { name, entry: child } of layer.children(entry)) {
      found.set(prefix + name, child);
      if (child.type === "dir") visit(child, `${prefix}${name}/`);
    }
  };
  visit(layer.root, "");
  return found;
}

describe.each(fixtureBlobs)("reference blob %s", (name, blob) => {
  it("reads as the reference reads it", async () => {
    const layer = await openFixture(blob);
    const theirs = fixtureJson<FixtureEntry[]>(blob.file.replace(/\.tar\.(gz|zst)$/, ".reader.json"));
    const found = walk(layer);
    expect([...found.keys()].sort()).toEqual(theirs.map((entry) => entry.path).sort());
    for (const expected of theirs) {
      const { chunks, toc_name: _, stat_mode: __, ...rest } = expected as FixtureEntry & { toc_name?: string; stat_mode?: string };
      const wanted: Record<string, unknown> = {
        ...rest,
        ...(chunks === undefined || chunks === null ? {} : { chunks: chunks.map(({ next: _next, ...chunk }) => chunk) }),
      };
      for (const key of Object.keys(wanted)) {
        const exception = `${name} ${expected.path} ${key}`;
        if (exception in REFERENCE_ERRORS) wanted[key] = REFERENCE_ERRORS[exception];
      }
      const entry = layer.lookup(expected.path);
      expect(entry).toBe(found.get(expected.path));
      expect(await describeEntry(layer, expected.path, entry as LayerEntry, expected)).toEqual(wanted);
    }
  });

  it("opens again from its TOC without a read", async () => {
    const layer = await openFixture(blob);
    const blobs = { ...layer.blob, readAt: () => Promise.reject(new Error("read")), readTail: () => Promise.reject(new Error("read")) };
    const { format, blobSize, payloadEnd, tocBytes, tocDigest } = layer;
    const again = openLayerFromToc({ blob: blobs, format, blobSize, payloadEnd, tocBytes, tocDigest, allowUnverified: false });
    expect(again.entries.map((entry) => entry.path)).toEqual(layer.entries.map((entry) => entry.path));
    expect(again.chunks).toEqual(layer.chunks);
    expect(again.chunks.map((chunk) => again.span(chunk))).toEqual(layer.chunks.map((chunk) => layer.span(chunk)));
  });
});

import { createHash } from "node:crypto";
import { isEstargzError, type Layer, type LayerEntry } from "@estargz/interface";
import { expect } from "vitest";
import type { TarSpec } from "./tar-builder.ts";

/** Digest of bytes as the specification writes it. */
export const sha256 = (bytes: Uint8Array): string => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

/** Bytes that do not compress. */
export const noise = (length: number): Uint8Array => {
  let state = length;
  return Uint8Array.from({ length }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
    return state >>> 24;
  });
};

/** Clean path of a name, as every reader has to see it. */
export function cleanName(name: string): string {
  const parts: string[] = [];
  for (const part of name.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return parts.join("/");
}

/** The entry at a path, which has to be there. */
export const at = (layer: Layer, path: string): LayerEntry => {
  const entry = layer.lookup(path);
  if (entry === undefined) throw new Error(`${path} is not in the layer`);
  return entry;
};

/** What an entry has to look like, from the tar that it was written from. */
function expected(spec: TarSpec): Record<string, unknown> {
  const type = spec.type ?? (spec.name.endsWith("/") ? "dir" : "reg");
  const content = typeof spec.content === "string" ? bytesOf(spec.content) : (spec.content ?? new Uint8Array(0));
  const xattrs = Object.entries(spec.xattrs ?? {}).map(
    ([name, value]) => [name, typeof value === "string" ? bytesOf(value) : value] as const,
  );
  return {
    type,
    mode: spec.mode ?? (type === "dir" ? 0o755 : type === "symlink" ? 0o777 : 0o644),
    uid: spec.uid ?? 0,
    gid: spec.gid ?? 0,
    mtimeNs: BigInt(spec.mtime ?? 0) * 1_000_000_000n,
    size: type === "reg" ? content.length : type === "symlink" ? bytesOf(spec.linkName ?? "").length : 0,
    linkName: type === "symlink" ? spec.linkName : "",
    devMajor: spec.devMajor ?? 0,
    devMinor: spec.devMinor ?? 0,
    xattrs: Object.fromEntries(xattrs),
    ...(type === "reg" ? { digest: sha256(content) } : {}),
  };
}

async function expectEntryEquals(layer: Layer, path: string, spec: TarSpec): Promise<void> {
  const entry = at(layer, path);
  const wanted = expected(spec);
  const shown = Object.fromEntries(Object.keys(wanted).map((key) => [key, entry[key as keyof LayerEntry]]));
  // A device's numbers are those of a device only.
  const isDevice = entry.type === "char" || entry.type === "block";
  expect({ path, ...shown, xattrs: Object.fromEntries(entry.xattrs) }).toEqual({
    path,
    ...wanted,
    ...(isDevice ? {} : { devMajor: 0, devMinor: 0 }),
  });
  const content = typeof spec.content === "string" ? bytesOf(spec.content) : (spec.content ?? new Uint8Array(0));
  const read = entry.type === "reg" ? await layer.readFile(entry) : content;
  expect(Buffer.from(read).equals(content)).toBe(true);
}

/** Compares every entry of a layer with the tar it was written from, contents included. */
export async function expectLayerEquals(layer: Layer, specs: readonly TarSpec[]): Promise<void> {
  const byPath = new Map(specs.map((spec) => [cleanName(spec.name), spec]));
  for (const [path, spec] of byPath) {
    const target = spec.type === "hardlink" ? cleanName(spec.linkName ?? "") : path;
    expect(at(layer, path)).toBe(at(layer, target));
    if (spec.type !== "hardlink") await expectEntryEquals(layer, path, spec);
  }
  const known = new Set(["", ".prefetch.landmark", ".no.prefetch.landmark"]);
  for (const path of byPath.keys())
    for (let parent = path; ; parent = parent.slice(0, Math.max(0, parent.lastIndexOf("/")))) {
      known.add(parent);
      if (parent === "") break;
    }
  expect(layer.entries.map((entry) => entry.path).filter((path) => !known.has(path))).toEqual([]);
}

/** Code of the error that a promise rejects with. */
export async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    return isEstargzError(error) ? error.code : String(error);
  }
  return "no error";
}

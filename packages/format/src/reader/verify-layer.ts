import {
  type Digest,
  EstargzError,
  type Layer,
  parseDigest,
  type ReadOptions,
  type VerifyLevel,
  type VerifyReport,
} from "@estargz/interface";
import { runtime } from "#runtime";
import { readTar } from "../tar/read-tar.ts";
import type { TarHeader } from "../tar/tar-entry.ts";
import { KIND } from "../toc/kind.ts";
import { cleanPath } from "../toc/path.ts";
import type { TocTable } from "../toc/toc-table.ts";
import { TOC_NAME } from "../toc/unpack-toc.ts";
import { readBlob } from "../writer/tar-source.ts";
import { verifyDigest } from "./decode-chunk.ts";
import { streamChunks } from "./read-file.ts";

/**
 * Proves a layer against its digests, at the level asked for: the TOC's digest; every chunk, read from where the TOC says; and at level
 * `full` that the tar, as an unpacker sees it, and the TOC say the same of every file.
 *
 * @throws {@link EstargzError} `DIGEST_MISMATCH`, with the path and the field that differ for level `full`; what reading throws.
 */
export async function verifyLayer(layer: Layer, table: TocTable, level: VerifyLevel, options: ReadOptions): Promise<VerifyReport> {
  options.signal?.throwIfAborted();
  if (layer.verified) verifyDigest(layer.tocBytes, layer.tocDigest, "the TOC");
  const report: VerifyReport = { level, tocDigest: layer.tocDigest, entries: layer.entries.length, chunks: layer.chunks.length };
  if (level === "toc") return report;
  for await (const _bytes of streamChunks(layer, layer.chunks, options)) options.signal?.throwIfAborted();
  if (level === "chunks") return report;
  return { ...report, ...(await compareWithTar(layer, table, options)) };
}

interface TarFile {
  readonly header: TarHeader;
  readonly digest: string | undefined;
}

/** Reads the whole blob as an unpacker does. */
async function compareWithTar(layer: Layer, table: TocTable, options: ReadOptions): Promise<{ blobDigest: Digest; diffId: Digest }> {
  const blobHash = runtime.createSha256();
  const tarHash = runtime.createSha256();
  const blob = hashed(readBlob(layer.blob, options.signal), blobHash, options);
  const tar = hashed(runtime.decompress(layer.compression, blob), tarHash, options);
  const files = new Map<string, TarFile>();
  for await (const item of readTar(tar)) {
    if (item.kind === "end") for await (const _rest of item.bytes) continue;
    if (item.kind !== "entry") continue;
    const path = cleanPath(item.header.name);
    if (path === TOC_NAME && layer.format !== "zstd:chunked") for await (const _toc of item.payload) continue;
    else files.set(path, { header: item.header, digest: await contentDigest(item.header, item.payload, layer, path) });
  }
  // Whatever follows the tar counts for both digests.
  for await (const _rest of tar) continue;
  compareTrees(layer, table, files);
  return { blobDigest: parseDigest(`sha256:${blobHash.hex()}`), diffId: parseDigest(`sha256:${tarHash.hex()}`) };
}

async function* hashed(
  source: AsyncIterable<Uint8Array>,
  hash: ReturnType<typeof runtime.createSha256>,
  options: ReadOptions,
): AsyncIterable<Uint8Array> {
  for await (const bytes of source) {
    options.signal?.throwIfAborted();
    hash.update(bytes);
    yield bytes;
  }
}

/** Digest of a file in the tar. Its pieces are compared with the TOC's chunks on the way. */
async function contentDigest(
  header: TarHeader,
  payload: AsyncIterable<Uint8Array>,
  layer: Layer,
  path: string,
): Promise<string | undefined> {
  if (header.kind !== "reg") return undefined;
  const whole = runtime.createSha256();
  const entry = layer.lookup(path);
  const chunks = entry?.path === path && entry.size === header.size ? entry.chunks : [];
  let index = 0;
  let left = chunks[0]?.length ?? 0;
  let hash = runtime.createSha256();
  const wrong: number[] = [];
  for await (const bytes of payload) {
    whole.update(bytes);
    for (let used = 0; used < bytes.length && left > 0; ) {
      const part = bytes.subarray(used, used + left);
      hash.update(part);
      used += part.length;
      left -= part.length;
      if (left > 0) continue;
      const { digest, fileOffset } = chunks[index] as (typeof chunks)[number];
      if (digest !== undefined && digest !== `sha256:${hash.hex()}`) wrong.push(fileOffset);
      index += 1;
      left = chunks[index]?.length ?? 0;
      hash = runtime.createSha256();
    }
  }
  // Of an entry that a later one of the same name replaces nothing can be said.
  return wrong.length === 0 ? `sha256:${whole.hex()}` : `chunk at ${wrong[0]}`;
}

function compareTrees(layer: Layer, table: TocTable, files: ReadonlyMap<string, TarFile>): void {
  const rows = new Map<string, number>();
  for (let row = 0; row < table.listedRows; row += 1) rows.set(table.paths[row] as string, row);
  for (const path of rows.keys()) if (!files.has(path)) throw differs(path, "name", "in the TOC only");
  for (const [path, tarFile] of files) {
    const row = rows.get(path);
    if (row === undefined) throw differs(path, "name", "in the tar only");
    compareRow(layer, table, row, path, tarFile);
  }
}

function compareRow(layer: Layer, table: TocTable, row: number, path: string, { header, digest }: TarFile): void {
  const check = (field: string, toc: unknown, tar: unknown): void => {
    if (toc !== tar) throw differs(path, field, `${String(toc)} in the TOC, ${String(tar)} in the tar`);
  };
  const kind = table.kinds[row];
  check("type", kind, header.kind === "skip" ? undefined : KIND[header.kind]);
  if (kind === KIND.reg) check("size", table.sizes[row], header.size);
  check("mode", table.modes[row], header.mode % 0o10000);
  check("uid", table.uids[row], header.uid);
  check("gid", table.gids[row], header.gid);
  check("devMajor", table.devices.get(row)?.major ?? 0, kind === KIND.char || kind === KIND.block ? header.devMajor : 0);
  check("devMinor", table.devices.get(row)?.minor ?? 0, kind === KIND.char || kind === KIND.block ? header.devMinor : 0);
  if (kind === KIND.symlink || kind === KIND.hardlink) check("linkName", table.linkNames.get(row), header.linkName);
  compareTime(table, row, path, header);
  compareXattrs(layer, path, kind === KIND.hardlink, header);
  if (kind !== KIND.reg) return;
  if (digest?.startsWith("chunk") === true) throw differs(path, "content", digest);
  const listed = table.digestTexts.get(table.digests[row] as number);
  if (listed !== undefined) check("content", listed, digest);
}

/** TOCs have whole seconds, mostly rounded; containers/storage's have fractions. */
function compareTime(table: TocTable, row: number, path: string, { mtime }: TarHeader): void {
  const difference = Math.abs(
    (table.seconds[row] as number) - mtime.seconds + ((table.nanoseconds.get(row) ?? 0) - mtime.nanoseconds) / 1e9,
  );
  const beyond = mtime.seconds > 253_402_300_799 || mtime.seconds < -62_167_219_200;
  if (difference < 1 || beyond) return;
  throw differs(path, "mtime", `${table.seconds[row]} in the TOC, ${mtime.seconds} in the tar`);
}

function compareXattrs(layer: Layer, path: string, isLink: boolean, { xattrs }: TarHeader): void {
  const ours = layer.lookup(path)?.xattrs ?? new Map();
  // Those of a hard link are its target's.
  if (isLink) return;
  for (const name of new Set([...ours.keys(), ...xattrs.keys()])) {
    const a = ours.get(name);
    const b = xattrs.get(name);
    if (a === undefined || b === undefined || a.join() !== b.join()) throw differs(path, `xattr ${name}`, "not the same in TOC and tar");
  }
}

function differs(path: string, field: string, how: string): EstargzError {
  return new EstargzError("DIGEST_MISMATCH", `TOC and tar differ in the ${field} of ${JSON.stringify(path)}: ${how}`, {
    details: { path, field },
  });
}

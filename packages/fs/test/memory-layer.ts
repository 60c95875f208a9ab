import { createHash } from "node:crypto";
import { constants, gunzipSync, gzipSync } from "node:zlib";
import {
  type ByteRange,
  type Chunk,
  type Digest,
  type DirectoryEntry,
  EstargzError,
  type Layer,
  type LayerEntry,
  parseDigest,
  type ReaderAt,
} from "@estargz/interface";

/** A file or other entry of a layer made for a test. Parents are made as they are needed. */
export interface TestEntry {
  readonly path: string;
  readonly type?: LayerEntry["type"] | "hardlink";
  readonly content?: Uint8Array | string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtimeNs?: bigint;
  readonly link?: string;
  readonly device?: readonly [number, number];
  readonly xattrs?: Readonly<Record<string, string>>;
}

export interface TestLayerOptions {
  readonly chunkSize?: number;
  readonly prefetchFiles?: number;
  readonly verified?: boolean;
  /** Several small files in one member. */
  readonly pack?: boolean;
  /** Makes the TOC digest differ without changing anything else. */
  readonly salt?: string;
  readonly level?: number;
}

type MutableEntry = { -readonly [Key in keyof LayerEntry]: LayerEntry[Key] };

export function sha256(bytes: Uint8Array | string): Digest {
  return parseDigest(`sha256:${createHash("sha256").update(bytes).digest("hex")}`);
}

/** A layer, its blob and what it is called. */
export interface MadeLayer {
  readonly layer: Layer;
  readonly blob: Buffer;
  readonly digest: Digest;
}

/** Makes a layer in memory, with a real blob of gzip members, without the format package. */
export function makeLayer(files: readonly TestEntry[], options: TestLayerOptions = {}): MadeLayer {
  const entries: MutableEntry[] = [];
  const names = new Map<string, LayerEntry>();
  const children = new Map<number, DirectoryEntry[]>();
  const chunks: Chunk[] = [];
  const parts: Buffer[] = [];
  let blobSize = 0;
  let prefetchEnd: number | undefined;

  const add = (path: string, type: LayerEntry["type"], spec: Partial<TestEntry>): MutableEntry => {
    const entry: MutableEntry = {
      index: entries.length,
      path,
      type,
      size: 0,
      mode: spec.mode ?? (type === "dir" ? 0o755 : 0o644),
      uid: spec.uid ?? 0,
      gid: spec.gid ?? 0,
      mtimeNs: spec.mtimeNs ?? 1_700_000_000_000_000_000n,
      linkName: spec.link ?? "",
      devMajor: spec.device?.[0] ?? 0,
      devMinor: spec.device?.[1] ?? 0,
      linkCount: type === "dir" ? 2 : 1,
      xattrs: new Map(Object.entries(spec.xattrs ?? {}).map(([key, value]) => [key, Buffer.from(value)])),
      digest: undefined,
      chunks: [],
    };
    entries.push(entry);
    name(path, entry);
    return entry;
  };
  const name = (path: string, entry: LayerEntry): void => {
    names.set(path, entry);
    if (path === "") return;
    const slash = path.lastIndexOf("/");
    const parentPath = slash < 0 ? "" : path.slice(0, slash);
    const parent = (names.get(parentPath) as MutableEntry | undefined) ?? add(parentPath, "dir", {});
    if (entry.type === "dir") parent.linkCount++;
    const list = children.get(parent.index) ?? [];
    list.push({ name: path.slice(slash + 1), entry });
    children.set(parent.index, list);
  };
  const put = (bytes: Buffer): number => {
    parts.push(bytes);
    blobSize += bytes.length;
    return blobSize - bytes.length;
  };

  add("", "dir", {});
  const chunkSize = options.chunkSize ?? 4096;
  const gzip = (bytes: Uint8Array): Buffer => gzipSync(bytes, { level: options.level ?? 6 });
  let pending: { entry: MutableEntry; content: Buffer }[] = [];
  const flush = (): void => {
    if (pending.length === 0) return;
    const at = put(gzip(Buffer.concat(pending.map((one) => one.content))));
    let inner = 0;
    for (const { entry, content } of pending) {
      entry.chunks = [
        {
          index: 0,
          entry: entry.index,
          fileOffset: 0,
          length: content.length,
          blobOffset: at,
          innerOffset: inner,
          digest: sha256(content),
          zeros: false,
        },
      ];
      inner += content.length;
    }
    pending = [];
  };
  for (const [position, spec] of files.entries()) {
    if (spec.type === "hardlink") {
      const target = names.get(spec.link ?? "") as MutableEntry;
      target.linkCount++;
      name(spec.path, target);
      continue;
    }
    if (position === options.prefetchFiles) {
      flush();
      prefetchEnd = put(gzip(Buffer.from([0xf])));
    }
    const entry = add(spec.path, spec.type ?? "reg", spec);
    if (entry.type === "symlink") entry.size = Buffer.byteLength(entry.linkName);
    if (entry.type !== "reg") continue;
    const content = Buffer.from(spec.content ?? "");
    entry.size = content.length;
    entry.digest = sha256(content);
    if (options.pack === true && content.length > 0 && content.length <= chunkSize) {
      pending.push({ entry, content });
      if (pending.length === 8) flush();
      continue;
    }
    flush();
    const own: Chunk[] = [];
    for (let at = 0; at < content.length; at += chunkSize) {
      const piece = content.subarray(at, at + chunkSize);
      own.push({
        index: 0,
        entry: entry.index,
        fileOffset: at,
        length: piece.length,
        blobOffset: put(gzip(piece)),
        innerOffset: 0,
        digest: sha256(piece),
        zeros: false,
      });
    }
    entry.chunks = own;
  }
  flush();
  for (const entry of entries) {
    entry.chunks = entry.chunks.map((chunk) => {
      const numbered = { ...chunk, index: chunks.length, digest: options.verified === false ? undefined : chunk.digest };
      chunks.push(numbered);
      return numbered;
    });
  }
  for (const list of children.values()) list.sort((a, b) => Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)));
  const payloadEnd = blobSize;
  const tocBytes = Buffer.from(JSON.stringify({ version: 1, entries: tocEntries(files, names, prefetchEnd), salt: options.salt }));
  put(tocMember(tocBytes));
  put(footer(payloadEnd));
  const blob = Buffer.concat(parts);
  const starts = [
    ...new Set(chunks.map((chunk) => chunk.blobOffset)),
    ...(prefetchEnd === undefined ? [] : [prefetchEnd]),
    payloadEnd,
  ].sort((a, b) => a - b);
  const nextStart = new Map(starts.map((start, index) => [start, starts[index + 1] ?? payloadEnd]));
  const unused = (): never => {
    throw new EstargzError("UNSUPPORTED", "not made for this");
  };
  const root = entries[0] as LayerEntry;
  const layer: Layer = {
    format: "estargz",
    compression: "gzip",
    tocDigest: sha256(tocBytes),
    tocBytes,
    verified: options.verified ?? true,
    blobSize,
    payloadEnd,
    prefetchEnd,
    root,
    entries,
    chunks,
    blob: bytesReader(blob),
    lookup: (path) => names.get(path.replace(/^\//u, "")),
    children: (entry) => children.get(entry.index) ?? [],
    span: (chunk): ByteRange => ({ offset: chunk.blobOffset, length: (nextStart.get(chunk.blobOffset) ?? payloadEnd) - chunk.blobOffset }),
    decode: (bytes, chunk) =>
      gunzipSync(bytes, { finishFlush: constants.Z_SYNC_FLUSH }).subarray(chunk.innerOffset, chunk.innerOffset + chunk.length),
    readChunk: unused,
    readFile: unused,
    streamFile: unused,
    verify: unused,
  };
  return { layer, blob, digest: sha256(blob) };
}

/** The TOC of the files, as an eStargz layer stores it. */
function tocEntries(files: readonly TestEntry[], names: ReadonlyMap<string, LayerEntry>, prefetchEnd: number | undefined): unknown[] {
  const listed = new Set(files.map((file) => file.path));
  const made = [...names]
    .filter(([path, entry]) => entry.type === "dir" && path !== "" && !listed.has(path))
    .map(([path]) => ({ path, type: "dir" as const }));
  const toc: unknown[] =
    prefetchEnd === undefined
      ? []
      : [
          {
            name: ".prefetch.landmark",
            type: "reg",
            size: 1,
            offset: prefetchEnd,
            digest: sha256(Uint8Array.of(0xf)),
            chunkDigest: sha256(Uint8Array.of(0xf)),
          },
        ];
  for (const file of [...made, ...files]) {
    if (file.type === "hardlink") {
      toc.push({ name: file.path, type: "hardlink", linkName: file.link });
      continue;
    }
    const entry = names.get(file.path);
    if (entry === undefined) continue;
    const common = {
      name: file.path + (entry.type === "dir" ? "/" : ""),
      type: entry.type,
      mode: entry.mode,
      uid: entry.uid,
      gid: entry.gid,
      modtime: new Date(Number(entry.mtimeNs / 1_000_000n)).toISOString(),
      linkName: entry.linkName || undefined,
      devMajor: entry.devMajor || undefined,
      devMinor: entry.devMinor || undefined,
      xattrs:
        entry.xattrs.size === 0
          ? undefined
          : Object.fromEntries([...entry.xattrs].map(([key, value]) => [key, Buffer.from(value).toString("base64")])),
    };
    const [first, ...rest] = entry.chunks;
    const place = (chunk: Chunk): object => ({
      offset: chunk.blobOffset,
      innerOffset: chunk.innerOffset || undefined,
      chunkOffset: chunk.fileOffset || undefined,
      chunkSize: entry.chunks.length === 1 ? undefined : chunk.length,
      chunkDigest: chunk.digest,
    });
    toc.push({
      ...common,
      size: entry.type === "reg" ? entry.size : undefined,
      digest: entry.digest,
      ...(first === undefined ? {} : place(first)),
    });
    for (const chunk of rest) toc.push({ name: file.path, type: "chunk", ...place(chunk) });
  }
  return toc;
}

/** One gzip member with a tar of the TOC. */
function tocMember(json: Buffer): Buffer {
  const header = Buffer.alloc(512);
  header.write("stargz.index.json", 0);
  header.write("0000444\0", 100);
  header.write("0000000\0", 108);
  header.write("0000000\0", 116);
  header.write(`${json.length.toString(8).padStart(11, "0")}\0`, 124);
  header.write("00000000000\0", 136);
  header.write("        ", 148);
  header.write("0ustar\0" + "00", 156);
  let sum = 0;
  for (const byte of header) sum += byte;
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return gzipSync(Buffer.concat([header, json, Buffer.alloc((512 - (json.length % 512)) % 512), Buffer.alloc(1024)]));
}

/** The 51 bytes that say where the TOC is. */
function footer(tocOffset: number): Buffer {
  const extra = Buffer.concat([Buffer.from([0x53, 0x47, 22, 0]), Buffer.from(`${tocOffset.toString(16).padStart(16, "0")}STARGZ`)]);
  const head = Buffer.from([0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, extra.length, 0]);
  return Buffer.concat([head, extra, Buffer.from([1, 0, 0, 255, 255]), Buffer.alloc(8)]);
}

/** A reader of bytes in memory. */
export function bytesReader(bytes: Uint8Array): ReaderAt {
  const readAt = async (offset: number, length: number): Promise<Uint8Array> => {
    if (offset + length > bytes.length) throw new EstargzError("OUT_OF_RANGE", `${offset}+${length} is past ${bytes.length}`);
    return Uint8Array.from(bytes.subarray(offset, offset + length));
  };
  return {
    size: bytes.length,
    readAt,
    readTail: async (length) => ({ bytes: Uint8Array.from(bytes.subarray(Math.max(0, bytes.length - length))), size: bytes.length }),
    readRanges: (ranges) => Promise.all(ranges.map((range) => readAt(range.offset, range.length))),
  };
}

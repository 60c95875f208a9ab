import {
  type Chunk,
  type DirectoryEntry,
  type EntryType,
  EstargzError,
  type Layer,
  type LayerEntry,
  parseDigest,
  type ReaderAt,
} from "@estargz/interface";

/** A file, directory or symlink of a made-up layer. Parents come before children. */
export interface SyntheticEntry {
  readonly path: string;
  readonly type: Extract<EntryType, "dir" | "reg" | "symlink">;
  readonly size: number;
  readonly target?: string;
}

const CHUNK_BYTES = 4 * 1024 * 1024;
const MTIME_NS = 1_700_000_000_000_000_000n;

const unsupported = (): never => {
  throw new EstargzError("UNSUPPORTED", "a synthetic layer has no blob");
};

const noBlob: ReaderAt = { size: 0, readAt: unsupported, readTail: unsupported, readRanges: unsupported };

/** A layer with a tree and no bytes, for an index: data files are written beside it. */
export function syntheticLayer(specs: readonly SyntheticEntry[]): Layer {
  const entries: LayerEntry[] = [];
  const chunks: Chunk[] = [];
  const children = new Map<string, DirectoryEntry[]>();
  const add = (spec: SyntheticEntry): void => {
    const own: Chunk[] = [];
    for (let at = 0; at < spec.size && spec.type === "reg"; at += CHUNK_BYTES) {
      own.push({
        index: chunks.length + own.length,
        entry: entries.length,
        fileOffset: at,
        length: Math.min(CHUNK_BYTES, spec.size - at),
        blobOffset: 0,
        innerOffset: 0,
        digest: undefined,
        zeros: false,
      });
    }
    chunks.push(...own);
    const entry: LayerEntry = {
      index: entries.length,
      path: spec.path,
      type: spec.type,
      size: spec.type === "dir" ? 0 : spec.size,
      mode: spec.type === "dir" ? 0o755 : 0o644,
      uid: 0,
      gid: 0,
      mtimeNs: MTIME_NS,
      linkName: spec.target ?? "",
      devMajor: 0,
      devMinor: 0,
      linkCount: spec.type === "dir" ? 2 : 1,
      xattrs: new Map(),
      digest: undefined,
      chunks: own,
    };
    entries.push(entry);
    if (spec.type === "dir") children.set(spec.path, []);
    if (spec.path === "") return;
    const slash = spec.path.lastIndexOf("/");
    children.get(slash < 0 ? "" : spec.path.slice(0, slash))?.push({ name: spec.path.slice(slash + 1), entry });
  };
  add({ path: "", type: "dir", size: 0 });
  for (const spec of specs) add(spec);
  for (const list of children.values()) list.sort((a, b) => Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)));
  const [root] = entries;
  if (root === undefined) return unsupported();
  return {
    format: "estargz",
    compression: "gzip",
    tocDigest: parseDigest(`sha256:${"0".repeat(64)}`),
    tocBytes: new Uint8Array(0),
    verified: false,
    blobSize: 0,
    payloadEnd: 0,
    prefetchEnd: undefined,
    root,
    entries,
    chunks,
    blob: noBlob,
    lookup: unsupported,
    children: (entry) => children.get(entry.path) ?? [],
    span: () => ({ offset: 0, length: 0 }),
    decode: unsupported,
    readChunk: unsupported,
    readFile: unsupported,
    streamFile: unsupported,
    verify: unsupported,
  };
}

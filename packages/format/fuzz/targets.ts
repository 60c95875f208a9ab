import { isEstargzError, type Layer, type ReaderAt } from "@estargz/interface";
import { parseFooter } from "../src/footer.ts";
import { convertTar, defaultCodecs, fromBytes, openLayer, openLayerFromToc, portableGzip, readTar } from "../src/index.ts";

/** Feeds bytes to one of our parsers. Typed errors are fine; anything else is thrown. */
export type Target = (bytes: Uint8Array) => Promise<void>;

const LIMITS = { maxEntries: 20_000, maxTocBytes: 1 << 22, maxChunkBytes: 1 << 22, maxInnerOffset: 1 << 22 };

async function tolerate(run: () => unknown): Promise<void> {
  try {
    await run();
  } catch (error) {
    if (!isEstargzError(error)) throw error;
  }
}

/** Looks at everything a layer shows. */
function walk(layer: Layer): void {
  for (const entry of layer.entries) {
    void entry.xattrs.size;
    void entry.mtimeNs;
    if (layer.children(entry).some((child) => child.entry === layer.root)) throw new Error("the tree has a cycle");
    let covered = 0;
    for (const chunk of entry.chunks) {
      const { length } = layer.span(chunk);
      if (chunk.fileOffset !== covered || chunk.length < 1 || length < 0) throw new Error("chunks don't tile their file");
      covered += chunk.length;
    }
    if (entry.type === "reg" && covered !== entry.size) throw new Error("chunks don't cover their file");
  }
}

const noBlob: ReaderAt = {
  size: 1 << 20,
  readAt: () => Promise.reject(new Error("opening reads nothing")),
  readTail: () => Promise.reject(new Error("opening reads nothing")),
  readRanges: () => Promise.reject(new Error("opening reads nothing")),
};

/**
 * First byte: codec; next two: bytes wanted; next two: bytes to skip. Both codecs have to agree where both succeed. fzstd is left out: it
 * doesn't bound the matches of a hostile block, so some inputs keep it busy for many seconds (`corpus/member/zstd-endless-matches`).
 */
async function member(bytes: Uint8Array): Promise<void> {
  const [kind = 0, a = 0, b = 0, c = 0, d = 0] = bytes;
  const input = bytes.subarray(5);
  const codecs = kind % 2 === 0 ? [defaultCodecs.gzip, portableGzip] : [defaultCodecs.zstd];
  const results: Uint8Array[] = [];
  for (const codec of codecs) {
    await tolerate(() => results.push(codec.decode(input, a * 256 + b, { skip: c * 256 + d })));
  }
  const [first, second] = results;
  if (first !== undefined && first.length !== a * 256 + b) throw new Error("a codec gave another number of bytes");
  if (first !== undefined && second !== undefined && Buffer.compare(first, second) !== 0) throw new Error("the codecs differ");
}

async function tar(bytes: Uint8Array): Promise<void> {
  async function* source(): AsyncIterable<Uint8Array> {
    for (let at = 0; at < bytes.length; at += 1000) yield bytes.subarray(at, at + 1000);
  }
  const paths: string[] = [];
  await tolerate(async () => {
    let expanded = 0;
    for await (const item of readTar(source())) {
      if (item.kind !== "entry") continue;
      paths.push(item.header.name);
      for await (const piece of item.payload) {
        expanded += piece.length;
        // A sparse file may be a TiB of holes; a fuzzer needn't wait for it.
        if (expanded > 1 << 22) return;
      }
    }
    const output = convertTar(bytes, { threads: 1, prioritizedFiles: paths.slice(0, 3), allowMissingFiles: true });
    let size = 0;
    for await (const piece of output.bytes) size += piece.length;
    if ((await output.result).size !== size) throw new Error("the result's size is not that of its bytes");
  });
}

/** Everything that parses what others wrote. */
export const targets: Readonly<Record<string, Target>> = {
  footer: (bytes) => tolerate(() => parseFooter(bytes.subarray(0, 100), bytes.length * 100)),
  toc: (bytes) =>
    tolerate(() => {
      walk(
        openLayerFromToc({
          blob: noBlob,
          tocBytes: bytes,
          format: "estargz",
          blobSize: 1 << 20,
          payloadEnd: 1 << 20,
          allowUnverified: true,
          limits: LIMITS,
        }),
      );
    }),
  tar,
  member,
  blob: (bytes) =>
    tolerate(async () => {
      const layer = await openLayer(fromBytes(bytes), {
        allowUnverified: true,
        limits: LIMITS,
        externalToc: bytes.subarray(0, bytes.length >> 1),
      });
      walk(layer);
      if (layer.entries.reduce((sum, entry) => sum + entry.size, 0) > 1 << 22) return;
      await layer.verify("full");
    }),
};

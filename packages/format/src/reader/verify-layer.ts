import type { Layer, ReadOptions, VerifyLevel, VerifyReport } from "@estargz/interface";
import { verifyDigest } from "./decode-chunk.ts";
import { streamChunks } from "./read-file.ts";

/** Proves a layer against its digests, at the level asked for. */
export async function verifyLayer(layer: Layer, level: VerifyLevel, options: ReadOptions): Promise<VerifyReport> {
  options.signal?.throwIfAborted();
  verifyDigest(layer.tocBytes, layer.tocDigest, "the TOC");
  const report: VerifyReport = { level, tocDigest: layer.tocDigest, entries: layer.entries.length, chunks: layer.chunks.length };
  if (level === "toc") return report;
  for await (const _bytes of streamChunks(layer, layer.chunks, options)) options.signal?.throwIfAborted();
  return report;
}

import { createHash } from "node:crypto";
import { gunzipSync } from "node:zlib";
import { convertTar, fromBytes, openLayer } from "@estargz/format";
import type { Chunk, Layer } from "@estargz/interface";
import { collect } from "./make-layers.ts";
import { type Comparison, inTurns } from "./measure.ts";

/** Decoding and verifying chunks, in order and at random, against zlib alone over the same bytes. */
export async function benchmarkRead(tar: Uint8Array, chunkSizeBytes: number, rounds: number): Promise<Comparison[]> {
  const { blob, written } = await collect(convertTar(tar, { chunkSizeBytes }));
  const layer = await openLayer(fromBytes(blob), { tocDigest: written.tocDigest });
  const results: Comparison[] = [];
  for (const [order, chunks] of [
    ["in order", layer.chunks],
    ["at random", shuffled(layer.chunks)],
  ] as const) {
    results.push(await compare(layer, blob, chunks, `read chunks of ${chunkSizeBytes >> 10} KiB ${order}`, rounds));
  }
  return results;
}

async function compare(layer: Layer, blob: Uint8Array, chunks: readonly Chunk[], name: string, rounds: number): Promise<Comparison> {
  const spans = chunks.map((chunk) => layer.span(chunk));
  const bytes = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  const times = await inTurns(rounds, {
    ours: () => {
      for (const [i, chunk] of chunks.entries()) {
        const { offset, length } = spans[i] as (typeof spans)[number];
        layer.decode(blob.subarray(offset, offset + length), chunk);
      }
    },
    zlib: () => {
      for (const { offset, length } of spans) gunzipSync(blob.subarray(offset, offset + length));
    },
    "zlib and sha256": () => {
      for (const { offset, length } of spans)
        createHash("sha256")
          .update(gunzipSync(blob.subarray(offset, offset + length)))
          .digest();
    },
  });
  const ratio = (times["zlib"] ?? 0) / (times["ours"] ?? 1);
  const same = (times["zlib and sha256"] ?? 0) / (times["ours"] ?? 1);
  return {
    name,
    meaning: "speed / node:zlib without verification, more is better",
    ratio,
    goal: "at least 0.9",
    met: ratio >= 0.9,
    oursMs: times["ours"],
    theirsMs: times["zlib"],
    note: `${chunks.length} chunks, ${(bytes / 1e6).toFixed(1)} MB; ${same.toFixed(2)} of zlib with sha256`,
  };
}

function shuffled(chunks: readonly Chunk[]): Chunk[] {
  const result = [...chunks];
  let state = 1;
  for (let i = result.length - 1; i > 0; i -= 1) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    const j = state % (i + 1);
    [result[i], result[j]] = [result[j] as Chunk, result[i] as Chunk];
  }
  return result;
}

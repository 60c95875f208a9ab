import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { blobOrder, excessBytes, planSpans } from "../src/fill/plan-spans.ts";
import { buildLayerIndex } from "../src/index.ts";
import { randomBytes } from "./content.ts";
import { makeLayer } from "./memory-layer.ts";

const { layer } = makeLayer(
  [
    { path: "a", content: randomBytes(1, 50_000) },
    { path: "b", content: randomBytes(2, 100) },
    { path: "c", content: randomBytes(3, 100) },
    { path: "d", content: randomBytes(4, 30_000) },
  ],
  { chunkSize: 4000, pack: true },
);
const index = buildLayerIndex(layer);
const order = blobOrder(index);
const everything = { maxGapBytes: 0, maxRequestBytes: Number.POSITIVE_INFINITY, isWanted: () => true };

describe("blobOrder", () => {
  it("has every chunk of the blob once, in its order, and none that is made up", () => {
    expect([...order.chunks].sort((a, b) => a - b)).toEqual(layer.chunks.map((chunk) => chunk.index));
    const offsets = [...order.chunks].map((chunk) => index.chunkBlobOffset(chunk));
    expect(offsets).toEqual([...offsets].sort((a, b) => a - b));
    expect(order.positions[index.firstChunk(index.stateFile)]).toBe(0xffff_ffff);
  });
});

describe("planSpans", () => {
  it("asks for neighbours together, and for a packed member once", () => {
    const plans = planSpans(index, order, [...order.chunks.keys()], everything);
    expect(plans).toHaveLength(1);
    expect(plans[0]).toMatchObject({ offset: 0, length: layer.payloadEnd, chunks: [...order.chunks] });
  });

  it("bridges gaps up to the limit, and takes along what is wanted in them", () => {
    const wide = planSpans(index, order, [0, 3], { ...everything, maxGapBytes: 100_000, isWanted: (chunk) => chunk !== order.chunks[1] });
    expect(wide.map((plan) => plan.chunks)).toEqual([[order.chunks[0], order.chunks[2], order.chunks[3]]]);
    expect(excessBytes(index, wide[0] ?? { offset: 0, length: 0, first: 0, last: 0, chunks: [] })).toBe(
      index.chunkSpanLength(order.chunks[1] ?? 0),
    );
    expect(planSpans(index, order, [0, 3], { ...everything, maxGapBytes: 10 })).toHaveLength(2);
  });

  it("covers exactly what is asked for, in requests that do not overlap", () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.nat(order.chunks.length - 1)),
        fc.nat(20_000),
        fc.integer({ min: 1, max: 60_000 }),
        (wanted, maxGapBytes, maxRequestBytes) => {
          const positions = wanted.sort((a, b) => a - b);
          const plans = planSpans(index, order, positions, { maxGapBytes, maxRequestBytes, isWanted: () => false });
          expect(plans.flatMap((plan) => plan.chunks)).toEqual(positions.map((position) => order.chunks[position]));
          let end = 0;
          for (const plan of plans) {
            expect(plan.offset).toBeGreaterThanOrEqual(end);
            end = plan.offset + plan.length;
            for (const chunk of plan.chunks) {
              expect(index.chunkBlobOffset(chunk)).toBeGreaterThanOrEqual(plan.offset);
              expect(index.chunkBlobOffset(chunk) + index.chunkSpanLength(chunk)).toBeLessThanOrEqual(end);
            }
          }
        },
      ),
    );
  });
});

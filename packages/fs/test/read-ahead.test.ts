import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createReadAhead } from "../src/fill/read-ahead.ts";

describe("createReadAhead", () => {
  it("opens no window for a first read", () => {
    expect(createReadAhead().miss(10, 10, 100)).toBe(0);
  });

  it("doubles the window of a forward reader up to the limit", () => {
    const ahead = createReadAhead({ maxWindowBytes: 450 });
    ahead.miss(0, 0, 100);
    expect([ahead.miss(1, 1, 100), ahead.miss(2, 3, 200), ahead.miss(4, 4, 100), ahead.miss(5, 5, 100)]).toEqual([100, 200, 400, 450]);
  });

  it("knows a reader again behind what was fetched for it", () => {
    const ahead = createReadAhead();
    ahead.miss(0, 0, 100);
    expect(ahead.miss(1, 1, 100)).toBe(100);
    ahead.fetched(1, 20);
    expect(ahead.miss(21, 21, 100)).toBe(200);
    expect(ahead.miss(200, 200, 100)).toBe(0);
  });

  it("takes two that wait for the same chunk for no step", () => {
    const ahead = createReadAhead();
    expect([ahead.miss(5, 5, 100), ahead.miss(5, 5, 100), ahead.miss(5, 5, 100)]).toEqual([0, 0, 0]);
    expect(ahead.miss(6, 6, 100)).toBe(100);
  });

  it("takes a read that goes on inside of the same chunk for a step", () => {
    const ahead = createReadAhead();
    ahead.miss(5, 5, 100);
    expect([ahead.miss(5, 5, 100, true), ahead.miss(5, 5, 100, true), ahead.miss(6, 6, 100, true)]).toEqual([100, 200, 400]);
  });

  it("knows a reader whose next read begins in the chunk of the last one", () => {
    const ahead = createReadAhead();
    ahead.miss(0, 3, 400);
    expect(ahead.miss(3, 7, 500)).toBe(500);
  });

  it("tells several readers apart", () => {
    const ahead = createReadAhead();
    ahead.miss(0, 0, 100);
    ahead.miss(1000, 1000, 100);
    expect(ahead.miss(1, 1, 100)).toBe(100);
    expect(ahead.miss(1001, 1001, 100)).toBe(100);
    expect(ahead.miss(2, 2, 100)).toBe(200);
  });

  it("fetches next to nothing ahead of random reads", () => {
    fc.assert(
      fc.property(
        fc
          .uniqueArray(fc.nat(639), { minLength: 150, maxLength: 150 })
          .map((list) => list.sort((a, b) => ((a * 7919) % 641) - ((b * 7919) % 641))),
        (positions) => {
          const ahead = createReadAhead();
          let bytes = 0;
          for (const position of positions) bytes += ahead.miss(position, position, 1);
          expect(bytes).toBeLessThan(150 * 0.2);
        },
      ),
      { numRuns: 50, seed: 1 },
    );
  });
});

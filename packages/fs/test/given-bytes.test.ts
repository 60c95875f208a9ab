import { expect, it } from "vitest";
import { createGivenBudget } from "../src/fill/given-bytes.ts";

it("bytes that the disk did not take have one bound over all layers, the oldest go first", () => {
  const budget = createGivenBudget(250);
  const [one, other] = [budget.forLayer(), budget.forLayer()];
  one.add(1, new Uint8Array(100));
  other.add(1, new Uint8Array(100));
  one.add(1, new Uint8Array(100).fill(1));
  expect([one.get(1)?.[0], other.get(1)?.[0]]).toEqual([1, 0]);
  one.add(2, new Uint8Array(100));
  expect([one.get(1)?.length, one.get(2)?.length, other.get(1)]).toEqual([100, 100, undefined]);
  one.clear();
  expect(one.get(2)).toBeUndefined();
  for (let chunk = 0; chunk < 10; chunk++) other.add(chunk, new Uint8Array(100));
  expect(Array.from({ length: 10 }, (_, chunk) => other.get(chunk)?.length ?? 0)).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 100, 100]);
});

import { expect, test } from "vitest";
import { mapLimit } from "../src/map-limit.ts";

const later = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test("keeps the order and its bound", async () => {
  let running = 0;
  let most = 0;
  const results = await mapLimit([5, 1, 4, 2, 3], 2, async (value) => {
    running += 1;
    most = Math.max(most, running);
    for (let turn = 0; turn < value; turn++) await later();
    running -= 1;
    return value * 10;
  });
  expect(results).toEqual([50, 10, 40, 20, 30]);
  expect(most).toBe(2);
});

test("the first failure stops the rest, which are waited for", async () => {
  const ended: number[] = [];
  const run = mapLimit([0, 1, 2, 3], 2, async (value, _index, signal) => {
    if (value === 1) throw new Error("broken");
    while (!signal.aborted) await later();
    ended.push(value);
  });
  await expect(run).rejects.toThrow("broken");
  expect(ended).toEqual([0]);
});

test("an abort surfaces as its own reason", async () => {
  const controller = new AbortController();
  const run = mapLimit(
    [1, 2],
    2,
    async (_value, _index, signal) => {
      controller.abort(new Error("enough"));
      await later();
      signal.throwIfAborted();
    },
    controller.signal,
  );
  await expect(run).rejects.toThrow("enough");
  await expect(mapLimit([], 1, () => Promise.resolve(), controller.signal)).rejects.toThrow("enough");
});

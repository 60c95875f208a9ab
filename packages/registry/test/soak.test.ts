// 10,000 reads that mostly meet a fault: right bytes or a typed error each, and nothing is left of them.

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { isEstargzError } from "@estargz/interface";
import type { Fault } from "@estargz/testing";
import { expect, test } from "vitest";
import { fakeRegistry, pattern, testClient, until } from "./harness.ts";

const READS = 10_000;
const blob = pattern(400_000, "soak");

const faults: readonly Fault[] = [
  { status: 500 },
  { status: 429 },
  { status: 503, retryAfter: 0 },
  { status: 403 },
  { status: 404 },
  { truncateAfterBytes: 100 },
  { resetAfterBytes: 0 },
  { resetAfterBytes: 3000 },
  { shiftContentRange: 1 },
  { contentRange: "" },
  { ignoreRange: true },
  { encode: true },
  { expire: "tokens" },
  { expire: "redirects" },
  { server: "token", path: /token/, status: 500 },
  { server: "store", status: 401 },
  { server: "api", method: "GET", status: 502 },
];

/** A small generator of numbers below `n`, the same at each run. */
function numbers(seed: number): (n: number) => number {
  let state = seed;
  return (n) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state % n;
  };
}

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

/** Bytes in use once garbage is gone; buffers are freed a turn later. */
async function memory(): Promise<number> {
  for (let turn = 0; turn < 3; turn++) {
    collectGarbage();
    await new Promise((resolve) => setImmediate(resolve));
  }
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

test(`${READS} faulty reads give the right bytes or a typed error, and leave no socket, no memory, no rejection`, async () => {
  const registry = await fakeRegistry({ profile: "acr" });
  const descriptor = registry.content.putBlob("a/b", blob);
  const client = testClient({ retry: { maxAttempts: 3, minDelayMs: 1, maxDelayMs: 1 }, maxConcurrencyPerHost: 16 });
  const rejections: unknown[] = [];
  const onRejection = (reason: unknown): void => void rejections.push(reason);
  process.on("unhandledRejection", onRejection);
  const random = numbers(42);
  const samples: number[] = [];
  let right = 0;
  let failed = 0;
  let aborted = 0;
  try {
    const one = async (): Promise<void> => {
      const reader = client.openBlob({ reference: `${registry.address}/a/b`, descriptor });
      const offset = random(blob.length - 10_000);
      const length = 1 + random(8000);
      const controller = random(20) === 0 ? new AbortController() : undefined;
      const reason = new Error("left");
      if (controller !== undefined) setImmediate(() => controller.abort(reason));
      try {
        const bytes = await reader.readAt(offset, length, { signal: controller?.signal });
        if (bytes.length !== length || Buffer.compare(bytes, blob.subarray(offset, offset + length)) !== 0) throw new Error("wrong bytes");
        right += 1;
      } catch (error) {
        if (error === reason) aborted += 1;
        else if (isEstargzError(error)) failed += 1;
        else throw error;
      }
    };
    for (let done = 0; done < READS; done += 40) {
      if (done % 2000 === 0) {
        registry.clear();
        samples.push(await memory());
      }
      for (let count = 0; count < 30; count++) registry.inject(faults[random(faults.length)] as Fault);
      await Promise.all(Array.from({ length: 40 }, one));
      registry.clear();
    }
    samples.push(await memory());
  } finally {
    process.off("unhandledRejection", onRejection);
  }
  expect(right + failed + aborted).toBe(READS);
  expect(right).toBeGreaterThan(READS / 4);
  expect(failed).toBeGreaterThan(100);
  expect(rejections).toEqual([]);
  // Flat: 8,000 reads leave nothing that the first 2,000 did not.
  const [, first = 0] = samples;
  expect(samples.at(-1)).toBeLessThan(first + 4 * 1024 * 1024);
  expect(registry.openSockets).toBeLessThanOrEqual(40);
  await client.close();
  await until(() => registry.openSockets === 0);
});

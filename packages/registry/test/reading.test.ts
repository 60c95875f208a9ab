import { expect, test } from "vitest";
import { codeOf, fakeRegistry, pattern, testClient, until } from "./harness.ts";

const blob = pattern(2_000_000, "reading");

async function scene(options: Parameters<typeof testClient>[0] = {}) {
  const registry = await fakeRegistry();
  const descriptor = registry.content.putBlob("a/b", blob);
  const client = testClient(options);
  const open = () => client.openBlob({ reference: `${registry.address}/a/b`, descriptor });
  return { registry, client, open, reader: open() };
}

function expectBytes(bytes: Uint8Array, offset: number, length: number): void {
  expect(bytes).toHaveLength(length);
  expect(Buffer.compare(bytes, blob.subarray(offset, offset + length))).toBe(0);
}

test("opens nothing before the first read, and one connection for reads one after the other", async () => {
  const { registry, reader } = await scene();
  expect(registry.openSockets).toBe(0);
  for (let at = 0; at < 5; at++) expectBytes(await reader.readAt(at * 1000, 1000), at * 1000, 1000);
  expect(registry.openSockets).toBe(1);
});

test("the same range asked for at once is fetched once, and every caller owns its bytes", async () => {
  const { registry, reader } = await scene();
  const all = await Promise.all([1, 2, 3].map(() => reader.readAt(100, 500_000)));
  for (const bytes of all) expectBytes(bytes, 100, 500_000);
  all[0]?.fill(0);
  for (const bytes of all.slice(1)) expectBytes(bytes, 100, 500_000);
  expect(registry.requests).toHaveLength(1);
});

test("a range inside one that is on its way is not asked for again", async () => {
  const { registry, reader } = await scene();
  const outer = reader.readAt(0, 1_000_000);
  const inner = reader.readAt(400_000, 1000);
  expectBytes(await inner, 400_000, 1000);
  expectBytes(await outer, 0, 1_000_000);
  expect(registry.requests).toHaveLength(1);
});

test("of a range that overlaps one on its way only the rest is asked for", async () => {
  const { registry, reader } = await scene();
  const [first, second, third] = await Promise.all([
    reader.readAt(100_000, 200_000),
    reader.readAt(50_000, 100_000),
    reader.readAt(250_000, 100_000),
  ]);
  expectBytes(first, 100_000, 200_000);
  expectBytes(second, 50_000, 100_000);
  expectBytes(third, 250_000, 100_000);
  expect(new Set(registry.requests.map(({ headers }) => headers.range))).toEqual(
    new Set(["bytes=100000-299999", "bytes=300000-349999", "bytes=50000-99999"]),
  );
});

test("the head of a range is served before its tail has arrived", async () => {
  const { registry, reader } = await scene();
  registry.inject({ stallAfterBytes: 100_000 });
  const controller = new AbortController();
  const whole = codeOf(reader.readAt(0, 1_000_000, { signal: controller.signal }));
  expectBytes(await reader.readAt(10_000, 50_000), 10_000, 50_000);
  controller.abort();
  await whole;
  expect(registry.requests).toHaveLength(1);
});

test("an abort of the caller who began a transfer leaves it to the others", async () => {
  const { registry, reader } = await scene();
  registry.inject({ latencyMs: 100 });
  const controller = new AbortController();
  const first = reader.readAt(0, 100_000, { signal: controller.signal }).catch((error: unknown) => error);
  const second = reader.readAt(0, 100_000);
  controller.abort();
  expect(await first).toBe(controller.signal.reason);
  expectBytes(await second, 0, 100_000);
  expect(registry.requests).toHaveLength(1);
});

test("a transfer ends when its last waiter has left", async () => {
  const { registry, reader } = await scene();
  registry.inject({ stallAfterBytes: 5, times: Number.POSITIVE_INFINITY });
  const controller = new AbortController();
  const reads = [reader.readAt(0, 100_000, { signal: controller.signal }), reader.readAt(10, 20_000, { signal: controller.signal })];
  await until(() => registry.requests.length > 0);
  controller.abort();
  for (const read of reads) await expect(read).rejects.toBe(controller.signal.reason);
  await until(() => registry.openSockets === 0);
});

test("near ranges are one request and far ones one request with several ranges", async () => {
  const { registry, reader } = await scene();
  const near = [0, 1, 2, 3].map((index) => ({ offset: index * 10_100, length: 10_000 }));
  for (const [index, bytes] of (await reader.readRanges(near)).entries())
    expectBytes(bytes, (near[index] as { offset: number }).offset, 10_000);
  expect(registry.requests.map(({ headers }) => headers.range)).toEqual(["bytes=0-40299"]);
  registry.clear();
  const far = [5, 1, 9, 3].map((index) => ({ offset: index * 100_000, length: 5000 }));
  for (const [index, bytes] of (await reader.readRanges(far)).entries())
    expectBytes(bytes, (far[index] as { offset: number }).offset, 5000);
  expect(registry.requests.map(({ headers }) => headers.range)).toEqual(["bytes=100000-104999,300000-304999,500000-504999,900000-904999"]);
});

test("overlapping, repeated and empty ranges each get their own bytes", async () => {
  const { reader } = await scene();
  const ranges = [
    { offset: 10, length: 100 },
    { offset: 50, length: 100 },
    { offset: 10, length: 100 },
    { offset: 7, length: 0 },
    { offset: 1_999_999, length: 1 },
  ];
  const parts = await reader.readRanges(ranges);
  for (const [index, { offset, length }] of ranges.entries()) expectBytes(parts[index] as Uint8Array, offset, length);
  parts[0]?.fill(0);
  expectBytes(parts[2] as Uint8Array, 10, 100);
});

test("several ranges survive a cut in the middle of their answer", async () => {
  const { registry, reader } = await scene();
  registry.inject({ resetAfterBytes: 12_000 });
  const ranges = [1, 5, 9, 13].map((index) => ({ offset: index * 100_000, length: 8000 }));
  for (const [index, bytes] of (await reader.readRanges(ranges)).entries())
    expectBytes(bytes, (ranges[index] as { offset: number }).offset, 8000);
});

test("many ranges are split over requests of 64", async () => {
  const { registry, reader } = await scene({ plan: { maxGapBytes: 0, freeGapBytes: 0 } });
  const ranges = Array.from({ length: 150 }, (_, index) => ({ offset: index * 13_000, length: 100 }));
  for (const [index, bytes] of (await reader.readRanges(ranges)).entries()) expectBytes(bytes, index * 13_000, 100);
  expect(registry.requests.map(({ headers }) => headers.range?.split(",").length)).toEqual([64, 64, 22]);
});

test("streams in one request, and resumes it when it is cut", async () => {
  const { registry, reader } = await scene();
  registry.inject({ resetAfterBytes: 700_000 });
  const pieces: Uint8Array[] = [];
  for await (const piece of reader.stream?.(1000, 1_500_000) ?? []) pieces.push(piece);
  expectBytes(Buffer.concat(pieces), 1000, 1_500_000);
  expect(registry.requests).toHaveLength(2);
});

test("a stream that is left early ends its request", async () => {
  const { registry, reader } = await scene();
  registry.inject({ bytesPerSecond: 1_000_000 });
  for await (const piece of reader.stream?.(0, blob.length) ?? []) {
    expect(piece.length).toBeGreaterThan(0);
    break;
  }
  await until(() => registry.openSockets === 0);
});

test("a stream that was aborted or closed before its first piece asks for nothing", async () => {
  const { registry, reader } = await scene();
  const controller = new AbortController();
  const aborted = reader.stream?.(0, 1000, { signal: controller.signal })[Symbol.asyncIterator]();
  const reason = new Error("left");
  controller.abort(reason);
  await expect(aborted?.next()).rejects.toBe(reason);
  const closed = reader.stream?.(0, 1000)[Symbol.asyncIterator]();
  await reader.close?.();
  await expect(closed?.next()).rejects.toMatchObject({ code: "CLOSED" });
  expect(registry.requests).toHaveLength(0);
});

test("a stream that is not read holds the server back", async () => {
  const big = pattern(24_000_000, "big");
  const registry = await fakeRegistry();
  const descriptor = registry.content.putBlob("a/b", big);
  const reader = testClient().openBlob({ reference: `${registry.address}/a/b`, descriptor });
  const iterator = reader.stream?.(0, big.length)[Symbol.asyncIterator]();
  if (iterator === undefined) throw new Error("streams are expected");
  await iterator.next();
  let total = 0;
  for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) {
    total += next.value.length;
    if (total % 5 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  }
  expect(total).toBeGreaterThan(23_000_000);
});

test("reads past the end, or of what is no range, fail without a request", async () => {
  const { registry, reader } = await scene();
  for (const [offset, length] of [
    [blob.length, 1],
    [0, blob.length + 1],
    [-1, 1],
    [0, -1],
    [0.5, 1],
    [Number.NaN, 1],
    [Number.MAX_SAFE_INTEGER, 1],
  ] as const) {
    expect(await codeOf(reader.readAt(offset, length))).toBe("OUT_OF_RANGE");
  }
  expect(await reader.readAt(blob.length, 0)).toHaveLength(0);
  expect(registry.requests).toHaveLength(0);
});

test("a size that is not known is learned by any read, and kept to", async () => {
  const { registry, client } = await scene();
  const descriptor = { ...registry.content.putBlob("a/b", blob), size: -1 };
  const open = () => client.openBlob({ reference: `${registry.address}/a/b`, descriptor });
  const reader = open();
  expect(reader.size).toBeUndefined();
  await reader.readAt(5, 5);
  expect(reader.size).toBe(blob.length);
  expect(await codeOf(reader.readAt(blob.length - 5, 6))).toBe("OUT_OF_RANGE");
  expect(await codeOf(open().readAt(blob.length - 5, 6))).toBe("OUT_OF_RANGE");
  expect(await codeOf(open().readAt(blob.length + 5, 6))).toBe("OUT_OF_RANGE");
  expectBytes((await open().readTail(blob.length + 100)).bytes, 0, blob.length);
});

test("a closed reader fails, its client goes on", async () => {
  const { open } = await scene();
  const reader = open();
  await reader.readAt(0, 1);
  await reader.close?.();
  await reader.close?.();
  expect(await codeOf(reader.readAt(0, 1))).toBe("CLOSED");
  expectBytes(await open().readAt(0, 10), 0, 10);
});

test("429 halves the requests in flight, and good answers bring them back", async () => {
  const { registry, client, open } = await scene({ maxConcurrencyPerHost: 16, retry: { maxAttempts: 20, minDelayMs: 1, maxDelayMs: 20 } });
  registry.inject({ status: 429, times: 30 });
  const reads = Array.from({ length: 120 }, (_, index) => open().readAt(index * 10_000, 100));
  for (const [index, bytes] of (await Promise.all(reads)).entries()) expectBytes(bytes, index * 10_000, 100);
  expect(registry.requests.filter(({ status }) => status === 429)).toHaveLength(30);
  expect(registry.openSockets).toBeLessThanOrEqual(16);
  await client.close();
});

test("more urgent reads go first when a server is busy", async () => {
  const { registry, open } = await scene({ maxConcurrencyPerHost: 1 });
  registry.inject({ latencyMs: 50 });
  const order: string[] = [];
  const read = (name: string, priority: number, offset: number) =>
    open()
      .readAt(offset, 10, { priority })
      .then(() => order.push(name));
  const first = read("first", 0, 0);
  await until(() => registry.requests.length === 1);
  await Promise.all([first, read("background", 0, 1000), read("prefetch", 50, 2000), read("demand", 100, 3000)]);
  expect(order).toEqual(["first", "demand", "prefetch", "background"]);
});

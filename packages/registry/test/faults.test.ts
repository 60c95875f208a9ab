import type { Fault } from "@estargz/testing";
import { expect, test } from "vitest";
import type { RegistryClientOptions } from "../src/index.ts";
import { codeOf, fakeRegistry, pattern, testClient, until } from "./harness.ts";

const blob = pattern(300_000, "faults");
/** Short deadlines of parts; what is asserted is the outcome, never the time. */
const hasty: RegistryClientOptions = { timeouts: { headersMs: 400, idleBodyMs: 400 } };

async function scene(profile: "distribution" | "ecr" = "distribution", options: RegistryClientOptions = {}) {
  const registry = await fakeRegistry({ profile });
  const client = testClient(options);
  const descriptor = registry.content.putBlob("a/b", blob);
  const reference = `${registry.address}/a/b:latest`;
  return { registry, client, reader: client.openBlob({ reference, descriptor }), descriptor, reference };
}

const OFFSET = 10_000;
const LENGTH = 200_000;

/** Faults that pass: the read gives the right bytes in the end. */
const passing: readonly [string, Fault, RegistryClientOptions?][] = [
  ["latency", { latencyMs: 50 }],
  ["a slow rate", { bytesPerSecond: 2_000_000 }],
  ["a stall in the body", { stallAfterBytes: 50_000 }, hasty],
  ["a stall before the body", { stallAfterBytes: 0 }, hasty],
  ["a truncated body", { truncateAfterBytes: 70_000 }],
  ["a reset in the body", { resetAfterBytes: 70_000 }],
  ["a reset before the body", { resetAfterBytes: 0 }],
  ["several cuts one after the other", { resetAfterBytes: 20_000, times: 8 }],
  ["a black hole", { blackHole: true }, hasty],
  ["a wrong Content-Range, then a right one", { shiftContentRange: 5 }],
  ["500", { status: 500 }],
  ["502 twice", { status: 502, times: 2 }],
  ["503 with Retry-After", { status: 503, retryAfter: 0 }],
  ["429", { status: 429 }],
  ["a storm of 429", { status: 429, retryAfter: "0", times: 4 }],
  ["a range that is ignored", { ignoreRange: true, times: Number.POSITIVE_INFINITY }],
  ["a compressed answer", { encode: true }],
];

test.each(passing)("passes: %s", async (_name, fault, options) => {
  const { registry, reader } = await scene("distribution", { retry: { maxAttempts: 6, minDelayMs: 1, maxDelayMs: 5 }, ...options });
  registry.inject(fault);
  const bytes = await reader.readAt(OFFSET, LENGTH);
  expect(Buffer.compare(bytes, blob.subarray(OFFSET, OFFSET + LENGTH))).toBe(0);
});

/** Wrong Content-Range is no reason to try again: the server means it. So is a body of another blob. */
const lasting: readonly [string, Fault, string, RegistryClientOptions?][] = [
  ["a black hole", { blackHole: true }, "TIMEOUT", hasty],
  ["a stall", { stallAfterBytes: 0 }, "TIMEOUT", hasty],
  ["a reset before any byte", { resetAfterBytes: 0 }, "REGISTRY_UNAVAILABLE"],
  ["an empty body", { truncateAfterBytes: 0 }, "REGISTRY_UNAVAILABLE"],
  ["500", { status: 500 }, "REGISTRY_UNAVAILABLE"],
  ["501, which no repetition mends", { status: 501 }, "REGISTRY_UNAVAILABLE"],
  ["503", { status: 503 }, "REGISTRY_UNAVAILABLE"],
  ["429", { status: 429 }, "RATE_LIMITED"],
  ["429 with a long Retry-After", { status: 429, retryAfter: 86_400 }, "RATE_LIMITED"],
  ["403", { status: 403 }, "FORBIDDEN"],
  ["404", { status: 404 }, "NOT_FOUND"],
  ["418", { status: 418 }, "INVALID_RESPONSE"],
  ["a wrong Content-Range", { shiftContentRange: 5 }, "INVALID_RESPONSE"],
  ["a Content-Range before the range", { shiftContentRange: -200_000 }, "INVALID_RESPONSE"],
  ["no Content-Range", { contentRange: "" }, "INVALID_RESPONSE"],
  ["an unreadable Content-Range", { contentRange: "bytes 5-4/3" }, "INVALID_RESPONSE"],
  ["a swapped blob of another size", { swapBlob: pattern(250_000, "other") }, "INVALID_RESPONSE"],
  ["a compressed answer", { encode: true }, "INVALID_RESPONSE"],
  ["a redirect to nowhere", { redirectTo: "http://127.0.0.1:1/" }, "REGISTRY_UNAVAILABLE"],
  ["a redirect to no URL", { redirectTo: "http://[" }, "INVALID_RESPONSE"],
  ["a redirect to a file", { redirectTo: "file:///etc/passwd" }, "INVALID_RESPONSE"],
];

test.each(lasting)("is a typed error when it lasts: %s", async (_name, fault, code, options) => {
  const { registry, reader } = await scene("distribution", { retry: { maxAttempts: 3, minDelayMs: 1, maxDelayMs: 2 }, ...options });
  registry.inject({ ...fault, times: Number.POSITIVE_INFINITY });
  expect(await codeOf(reader.readAt(OFFSET, LENGTH))).toBe(code);
  registry.clear();
  const bytes = await reader.readAt(OFFSET, LENGTH);
  expect(Buffer.compare(bytes, blob.subarray(OFFSET, OFFSET + LENGTH))).toBe(0);
});

test("an answer that trickles is ended by the deadline of the whole", async () => {
  const { registry, reader } = await scene("distribution", { timeouts: { operationMs: 300 }, minBytesPerSecond: 1e9 });
  registry.inject({ bytesPerSecond: 2000, times: Number.POSITIVE_INFINITY });
  expect(await codeOf(reader.readAt(OFFSET, LENGTH))).toBe("TIMEOUT");
  await until(() => registry.openSockets === 0);
});

test("wrong bytes of the right size are left to the digests of chunks, and caught in whole blobs", async () => {
  const { registry, client, reference, descriptor } = await scene();
  registry.inject({ wrongBytes: true });
  expect(await codeOf(client.repository(reference).fetchBlob(descriptor))).toBe("DIGEST_MISMATCH");
  registry.inject({ wrongBytes: true });
  const read = async (): Promise<void> => {
    for await (const piece of client.repository(reference).streamBlob(descriptor)) expect(piece.length).toBeGreaterThan(0);
  };
  expect(await codeOf(read())).toBe("DIGEST_MISMATCH");
});

test("a swapped manifest is not believed", async () => {
  const { registry, client, reference } = await scene();
  const { descriptor } = registry.content.putImage("a/b", "latest", { layers: [] });
  const other = registry.content.putManifest("a/b", Buffer.from('{"schemaVersion":2}'), descriptor.mediaType);
  const stored = registry.content.repository("a/b").manifests;
  stored.set(descriptor.digest, stored.get(other.digest) as never);
  expect(await codeOf(client.repository(reference).fetchManifest(descriptor))).toBe("DIGEST_MISMATCH");
  expect(await codeOf(client.resolve(reference))).toBe("DIGEST_MISMATCH");
});

test("a cut answer is resumed where it was cut, not begun anew", async () => {
  const { registry, reader } = await scene();
  registry.inject({ resetAfterBytes: 150_000 });
  await reader.readAt(OFFSET, LENGTH);
  const ranges = registry.requests.map(({ headers }) => headers.range);
  expect(ranges[0]).toBe(`bytes=${OFFSET}-${OFFSET + LENGTH - 1}`);
  expect(ranges).toHaveLength(2);
  expect(Number(/bytes=(\d+)-/.exec(ranges[1] ?? "")?.[1])).toBeGreaterThan(OFFSET);
});

test("a token that ends during a read is replaced and the read goes on", async () => {
  const registry = await fakeRegistry({ profile: "harbor" });
  const descriptor = registry.content.putBlob("a/b", blob);
  const reader = testClient().openBlob({ reference: `${registry.address}/a/b`, descriptor });
  await reader.readAt(0, 10);
  registry.inject({ resetAfterBytes: 50_000 });
  registry.inject({ skip: 1, expire: "tokens" });
  const bytes = await reader.readAt(OFFSET, LENGTH);
  expect(Buffer.compare(bytes, blob.subarray(OFFSET, OFFSET + LENGTH))).toBe(0);
});

test("a redirect that ends during a read is asked for again", async () => {
  const { registry, reader } = await scene("ecr");
  await reader.readAt(0, 10);
  registry.inject({ resetAfterBytes: 50_000, server: "store" });
  registry.inject({ skip: 1, expire: "redirects", server: "store" });
  const bytes = await reader.readAt(OFFSET, LENGTH);
  expect(Buffer.compare(bytes, blob.subarray(OFFSET, OFFSET + LENGTH))).toBe(0);
});

test.each([400, 401, 403, 404, 410])("a redirect's end is known by %s", async (status) => {
  const { registry, reader } = await scene("ecr");
  await reader.readAt(0, 10);
  registry.inject({ server: "store", status });
  await reader.readAt(OFFSET, 10);
  expect(registry.requests.map(({ server }) => server)).toEqual(["api", "store", "store", "api", "store"]);
});

test("redirects in a circle end", async () => {
  const { registry, reader } = await scene();
  registry.inject({ redirectTo: "/v2/a/b/blobs/sha256:0", times: Number.POSITIVE_INFINITY });
  expect(await codeOf(reader.readAt(0, 10))).toBe("INVALID_RESPONSE");
  expect(registry.requests).toHaveLength(2 * 6);
});

test("reading far into a blob that is only sent whole has a limit", async () => {
  const { registry, reader } = await scene("distribution", { maxSkipBytes: 50_000 });
  registry.inject({ ignoreRange: true, times: Number.POSITIVE_INFINITY });
  expect(await codeOf(reader.readAt(100_000, 10))).toBe("RANGE_UNSUPPORTED");
  expect(Buffer.compare(await reader.readAt(40_000, 10), blob.subarray(40_000, 40_010))).toBe(0);
});

test("an abort leaves at once, with the caller's reason, and no connection behind", async () => {
  const { registry, reader } = await scene();
  registry.inject({ stallAfterBytes: 10, times: Number.POSITIVE_INFINITY });
  const controller = new AbortController();
  const read = reader.readAt(OFFSET, LENGTH, { signal: controller.signal });
  await until(() => registry.requests.length === 1);
  const reason = new Error("enough");
  controller.abort(reason);
  await expect(read).rejects.toBe(reason);
  await until(() => registry.openSockets === 0);
});

test("an abort ends the wait between repetitions", async () => {
  const { registry, reader } = await scene();
  registry.inject({ status: 429, retryAfter: 50, times: Number.POSITIVE_INFINITY });
  const controller = new AbortController();
  const read = reader.readAt(0, 10, { signal: controller.signal });
  await until(() => registry.requests[0]?.status === 429);
  controller.abort();
  expect(await codeOf(read)).not.toBe("RATE_LIMITED");
  expect(registry.requests).toHaveLength(1);
});

test("closing the client ends reads in flight with CLOSED and every connection", async () => {
  const { registry, reader, client } = await scene();
  registry.inject({ stallAfterBytes: 10, times: Number.POSITIVE_INFINITY });
  const read = codeOf(reader.readAt(OFFSET, LENGTH));
  await until(() => registry.requests.length === 1);
  await client.close();
  expect(await read).toBe("CLOSED");
  expect(await codeOf(reader.readAt(0, 1))).toBe("CLOSED");
  await until(() => registry.openSockets === 0);
});

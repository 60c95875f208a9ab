import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseChallenges } from "../src/auth/challenge.ts";
import { signedUrlExpiry } from "../src/blob-location.ts";
import { nextPage } from "../src/content-discovery.ts";
import { Limiter } from "../src/http/limiter.ts";
import { retryDelayMs, retryPolicy } from "../src/http/retry.ts";
import { choosePlatform, formatReference, parseManifest, parsePlatform, parseReference } from "../src/index.ts";
import { MultipartParser, multipartBoundary } from "../src/multipart.ts";
import { formatRange, parseContentRange, parseUnsatisfiedRange } from "../src/range.ts";
import { planRuns } from "../src/range-planner.ts";
import { answerError, parseRegistryCodes, parseRetryAfter } from "../src/registry-error.ts";
import { SingleFlight } from "../src/single-flight.ts";

const hex = "a".repeat(64);
const digest = `sha256:${hex}` as never;

describe("references", () => {
  test.each([
    ["node", "docker.io/library/node:latest"],
    ["node:24", "docker.io/library/node:24"],
    ["org/app", "docker.io/org/app:latest"],
    ["docker.io/node", "docker.io/library/node:latest"],
    ["index.docker.io/org/app", "docker.io/org/app:latest"],
    ["registry-1.docker.io/node:1", "docker.io/library/node:1"],
    ["ghcr.io/a/b/c:v1", "ghcr.io/a/b/c:v1"],
    ["localhost/app", "localhost/app:latest"],
    ["localhost:5000/app", "localhost:5000/app:latest"],
    ["[::1]:5000/app:v1", "[::1]:5000/app:v1"],
    ["Host/app", "Host/app:latest"],
    [`a.b/c@sha256:${hex}`, `a.b/c@sha256:${hex}`],
    [`a.b/c:t@sha256:${hex}`, `a.b/c:t@sha256:${hex}`],
    ["a__b/c--d.e_f", "docker.io/a__b/c--d.e_f:latest"],
  ])("%s is %s", (text, full) => {
    expect(formatReference(parseReference(text))).toBe(full);
    expect(formatReference(parseReference(full))).toBe(full);
  });
  test.each([
    "",
    ":tag",
    "a/",
    "/a",
    "A",
    "a/B",
    "a//b",
    "a/../b",
    "a:b c",
    `a:${"t".repeat(129)}`,
    "a@sha256:12",
    "a@sha256:..",
    "a b",
    "a\n",
    "https://a/b",
    "-a.b/c",
    "a_.b/c",
    "a/.b",
    "x".repeat(5000),
    `a.b/${"c".repeat(256)}`,
    "a.b:x/c",
  ])("%j is refused", (text) => {
    expect(() => parseReference(text)).toThrow(expect.objectContaining({ code: "INVALID_REFERENCE" }));
  });
  test("any text gives a reference that says the same when written, or INVALID_REFERENCE", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[a-z0-9.:@/_-]{0,40}$/)), (text) => {
        try {
          const reference = parseReference(text);
          expect(parseReference(formatReference(reference))).toEqual(reference);
        } catch (error) {
          expect(error).toMatchObject({ code: "INVALID_REFERENCE" });
        }
      }),
    );
  });
});

describe("challenges", () => {
  const show = (field: string | string[]) =>
    parseChallenges(field).map(({ scheme, parameters }) => ({ scheme, ...Object.fromEntries(parameters) }));
  test.each([
    [
      'Bearer realm="https://a/t",service="s",scope="repository:a/b:pull,push"',
      [{ scheme: "bearer", realm: "https://a/t", service: "s", scope: "repository:a/b:pull,push" }],
    ],
    ['BASIC realm="Sonatype Nexus"', [{ scheme: "basic", realm: "Sonatype Nexus" }]],
    [
      'Basic realm="a", Bearer realm="b", service=c',
      [
        { scheme: "basic", realm: "a" },
        { scheme: "bearer", realm: "b", service: "c" },
      ],
    ],
    ["Negotiate, Basic", [{ scheme: "negotiate" }, { scheme: "basic" }]],
    ['bearer realm = "a" , error="invalid_token"', [{ scheme: "bearer", realm: "a", error: "invalid_token" }]],
    ['Bearer realm="a\\"b\\\\c"', [{ scheme: "bearer", realm: 'a"b\\c' }]],
    ["Bearer realm=https://a/t?x,service=s", [{ scheme: "bearer", realm: "https://a/t?x", service: "s" }]],
    ['Bearer realm="unterminated', [{ scheme: "bearer", realm: "unterminated" }]],
    [
      ["Basic realm=x", 'Bearer realm="y"'],
      [
        { scheme: "basic", realm: "x" },
        { scheme: "bearer", realm: "y" },
      ],
    ],
    [",, ,", []],
    ["", []],
  ] as const)("%j", (field, expected) => {
    expect(show(field as string)).toEqual(expected);
  });
  test("no text makes it throw or run on", () => {
    fc.assert(fc.property(fc.string({ maxLength: 300 }), (text) => void parseChallenges(text)));
    expect(parseChallenges("Bearer ".repeat(100_000)).length).toBeLessThan(5000);
  });
});

describe("ranges", () => {
  test.each([
    ["bytes 0-9/10", { offset: 0, length: 10, total: 10 }],
    ["bytes 5-5/*", { offset: 5, length: 1, total: undefined }],
    ["BYTES  1-2 / 3", { offset: 1, length: 2, total: 3 }],
    ["bytes=1-2/3", { offset: 1, length: 2, total: 3 }],
    ["bytes 5-4/10", undefined],
    ["bytes 0-10/10", undefined],
    ["bytes */10", undefined],
    ["items 0-9/10", undefined],
    ["bytes 0-9", undefined],
    ["bytes 0-99999999999999999/*", undefined],
    ["x bytes 0-9/10", undefined],
    [undefined, undefined],
  ])("Content-Range %j", (text, expected) => {
    expect(parseContentRange(text)).toEqual(expected);
  });
  test("a range that cannot be satisfied tells the size", () => {
    expect(parseUnsatisfiedRange("bytes */123")).toBe(123);
    expect(parseUnsatisfiedRange("bytes 0-1/123")).toBeUndefined();
    expect(
      formatRange([
        { offset: 0, length: 1 },
        { offset: 5, length: 10 },
      ]),
    ).toBe("bytes=0-0,5-14");
  });

  const ranges = fc.array(fc.record({ offset: fc.nat(1_000_000), length: fc.nat(50_000) }), { maxLength: 40 });
  test("planned runs cover what was asked for, are disjoint and in order, and read little besides", () => {
    fc.assert(
      fc.property(ranges, fc.nat(70_000), (asked, maxGapBytes) => {
        const runs = planRuns(asked, { maxGapBytes });
        for (const { offset, length } of asked) {
          if (length > 0) expect(runs.some((run) => run.offset <= offset && run.offset + run.length >= offset + length)).toBe(true);
        }
        runs.slice(1).forEach((run, index) => expect(run.offset).toBeGreaterThan(runs[index]!.offset + runs[index]!.length));
        const least = planRuns(asked, { freeGapBytes: 0, maxOverRead: 0 });
        const sum = (list: typeof runs) => list.reduce((total, { length }) => total + length, 0);
        expect(sum(runs)).toBeLessThanOrEqual(sum(least) * 1.04 + 256 * least.length);
      }),
    );
  });
});

describe("multipart/byteranges", () => {
  const write = (parts: readonly { offset: number; bytes: Uint8Array }[], boundary: string, line: string): Buffer =>
    Buffer.concat([
      Buffer.from(`preamble${line}`),
      ...parts.flatMap(({ offset, bytes }) => [
        Buffer.from(
          `${line}--${boundary}${line}content-TYPE: x${line}CONTENT-range:bytes ${offset}-${offset + bytes.length - 1}/9999999${line}${line}`,
        ),
        bytes,
      ]),
      Buffer.from(`${line}--${boundary}--${line}epilogue`),
    ]);

  test("parts arrive whole however the answer is cut into pieces, also when they hold the boundary", () => {
    const part = fc.record({
      offset: fc.nat(1_000_000),
      bytes: fc.oneof(fc.uint8Array({ minLength: 1, maxLength: 200 }), fc.constant(Buffer.from("\r\n--b--\r\n"))),
    });
    fc.assert(
      fc.property(
        fc.array(part, { maxLength: 6 }),
        fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 20 }),
        fc.constantFrom("\r\n", "\n"),
        (parts, cuts, line) => {
          const seen: { offset: number; bytes: number[] }[] = [];
          const parser = new MultipartParser("b", {
            part: ({ offset }) => seen.push({ offset, bytes: [] }),
            bytes: (position, bytes) => {
              const last = seen.at(-1)!;
              expect(position).toBe(last.offset + last.bytes.length);
              last.bytes.push(...bytes);
            },
          });
          const whole = write(parts, "b", line);
          for (let at = 0, turn = 0; at < whole.length; turn++) {
            const size = cuts[turn % cuts.length]!;
            parser.write(whole.subarray(at, at + size));
            at += size;
          }
          expect(seen).toEqual(parts.map(({ offset, bytes }) => ({ offset, bytes: [...bytes] })));
          expect(parser.finished).toBe(true);
        },
      ),
    );
  });
  test("garbage is an error or nothing, never bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 500 }), (bytes) => {
        const parser = new MultipartParser("boundary", { bytes: () => expect.unreachable() });
        parser.write(bytes);
      }),
    );
    const parser = new MultipartParser("b", { bytes: () => {} });
    expect(() => parser.write(Buffer.from("--b\r\nContent-Type: x\r\n\r\n"))).toThrow(
      expect.objectContaining({ code: "INVALID_RESPONSE" }),
    );
    expect(() => new MultipartParser("b", { bytes: () => {} }).write(Buffer.alloc(20_000, 120))).toThrow(
      expect.objectContaining({ code: "INVALID_RESPONSE" }),
    );
  });
  test.each([
    ["multipart/byteranges; boundary=abc", "abc"],
    ['Multipart/ByteRanges;boundary="a b"', "a b"],
    ["multipart/x-byteranges; charset=x; boundary=z", "z"],
    ["application/octet-stream", undefined],
    [undefined, undefined],
  ])("boundary of %j", (type, boundary) => {
    expect(multipartBoundary(type)).toBe(boundary);
  });
});

describe("repetition", () => {
  const error = (status: number, retryAfter?: string) => answerError({ status, host: "h", what: "w", retryAfter, nowMs: 0 });
  const policy = retryPolicy({ minDelayMs: 100, maxDelayMs: 1000, maxAttempts: 6 });
  test("waits double, with jitter, up to a limit, and end", () => {
    const waits = [1, 2, 3, 4, 5, 6].map((attempt) => retryDelayMs(attempt, error(500), policy, () => 1));
    expect(waits).toEqual([100, 200, 400, 800, 1000, undefined]);
    expect(retryDelayMs(3, error(500), policy, () => 0.5)).toBe(200);
  });
  test("Retry-After is kept to, in seconds or as a date, unless it is too long", () => {
    expect(retryDelayMs(1, error(429, "7"), policy, () => 0)).toBe(7000);
    expect(parseRetryAfter(new Date(60_000).toUTCString(), 10_000)).toBe(50_000);
    expect(parseRetryAfter("soon", 0)).toBeUndefined();
    expect(retryDelayMs(1, error(429, "3600"), policy, () => 0)).toBeUndefined();
  });
  test.each([400, 401, 403, 404, 416, 501, 505])("%i is not tried again", (status) => {
    expect(retryDelayMs(1, error(status), policy, () => 0)).toBeUndefined();
  });
  test("only codes are taken from an error's body", () => {
    const body = Buffer.from(JSON.stringify({ errors: [{ code: "DENIED", message: "secret" }, { code: "no code" }, null, { code: 5 }] }));
    expect(parseRegistryCodes(body)).toEqual(["DENIED"]);
    for (const text of ["", "{", "[]", '{"errors":5}', "<html>"]) expect(parseRegistryCodes(Buffer.from(text))).toEqual([]);
  });
});

describe("the limiter", () => {
  test("halves once for a burst, and grows back", async () => {
    const limiter = new Limiter(8);
    const tickets = await Promise.all(Array.from({ length: 8 }, async () => limiter.acquire(undefined)));
    for (const ticket of tickets) limiter.release(ticket, "overloaded");
    expect(limiter.limit).toBe(4);
    for (let count = 0; count < 100; count++) limiter.release(await limiter.acquire(undefined), "ok");
    expect(limiter.limit).toBe(8);
    for (let count = 0; count < 10; count++) limiter.release(await limiter.acquire(undefined), "overloaded");
    expect(limiter.limit).toBe(1);
    expect(limiter.active).toBe(0);
  });
  test("an abort leaves the queue", async () => {
    const limiter = new Limiter(1);
    const ticket = await limiter.acquire(undefined);
    const controller = new AbortController();
    const waiting = limiter.acquire(controller.signal);
    controller.abort(new Error("left"));
    await expect(waiting).rejects.toThrow("left");
    await expect(limiter.acquire(AbortSignal.abort(new Error("before")))).rejects.toThrow("before");
    limiter.release(ticket, "ok");
    expect(limiter.active).toBe(0);
  });
});

test("a task for many is aborted only when all have left", async () => {
  const flights = new SingleFlight<string, number>();
  let aborted = false;
  let runs = 0;
  const task = (signal: AbortSignal): Promise<number> => {
    runs += 1;
    return new Promise((_, reject) => {
      signal.addEventListener("abort", () => {
        aborted = true;
        reject(signal.reason);
      });
    });
  };
  const [one, two] = [new AbortController(), new AbortController()];
  const first = flights.run("k", task, one.signal).catch(() => "left");
  const second = flights.run("k", task, two.signal).catch(() => "left");
  one.abort();
  expect([await first, aborted, runs]).toEqual(["left", false, 1]);
  two.abort();
  expect([await second, aborted]).toEqual(["left", true]);
  expect(await flights.run("k", async () => 5)).toBe(5);
});

describe("signed URLs", () => {
  test.each([
    ["https://s/x?X-Amz-Date=20261125T120000Z&X-Amz-Expires=60", Date.UTC(2026, 10, 25, 12, 1)],
    ["https://s/x?X-Goog-Date=20261125T120000Z&X-Goog-Expires=60", Date.UTC(2026, 10, 25, 12, 1)],
    ["https://s/x?se=2026-11-25T12:00:00Z&sig=x", Date.UTC(2026, 10, 25, 12)],
    ["https://s/x?Expires=1795608000&Signature=x", 1_795_608_000_000],
    ["https://s/x?X-Amz-Date=nonsense&X-Amz-Expires=60", undefined],
    ["https://s/x", undefined],
  ])("%s", (url, expected) => {
    expect(signedUrlExpiry(new URL(url))).toBe(expected);
  });
});

test("the next page is on the server that answered, whatever the link says", () => {
  const url = new URL("https://r.example/v2/a/tags/list?n=2");
  expect(nextPage('</v2/a/tags/list?n=2&last=b>; rel="next"', url)?.href).toBe("https://r.example/v2/a/tags/list?n=2&last=b");
  expect(nextPage("<http://evil.example/x?last=b>; rel=next", url)?.href).toBe("https://r.example/v2/a/tags/list?last=b");
  expect(nextPage('<?n=2>; rel="next"', url)).toBeUndefined();
  expect(nextPage('</x>; rel="prev"', url)).toBeUndefined();
});

describe("manifests", () => {
  const descriptor = { mediaType: "x", digest: `sha256:${hex}`, size: 5 };
  const parse = (value: unknown, type?: string) =>
    parseManifest(Buffer.from(typeof value === "string" ? value : JSON.stringify(value)), digest, type);
  test("both at once (CVE-2021-41190), contradictions, and malformed ones are refused", () => {
    for (const value of [
      { schemaVersion: 2, manifests: [], layers: [] },
      { schemaVersion: 2, manifests: [], config: descriptor },
      { schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", config: descriptor, layers: [] },
      { schemaVersion: 2, config: descriptor, layers: [{ ...descriptor, digest: "sha256:../../etc/passwd" }] },
      { schemaVersion: 2, config: descriptor, layers: [{ ...descriptor, size: -1 }] },
      { schemaVersion: 3, config: descriptor, layers: [] },
      "[]",
      "null",
      "{",
      "\xff",
    ]) {
      expect(() => parse(value)).toThrow(expect.objectContaining({ code: "INVALID_RESPONSE" }));
    }
    expect(() => parse({ schemaVersion: 1 })).toThrow(expect.objectContaining({ code: "UNSUPPORTED" }));
  });
  test("a missing media type is told by the fields, or by the answer", () => {
    expect(parse({ schemaVersion: 2, manifests: [] }).kind).toBe("index");
    const docker = "application/vnd.docker.distribution.manifest.v2+json";
    expect(parse({ schemaVersion: 2, config: descriptor, layers: [] }, docker).descriptor.mediaType).toBe(docker);
    expect(parse({ schemaVersion: 2, config: descriptor, layers: [], annotations: null }).kind).toBe("manifest");
  });
  test("platforms are chosen by variant, attestations never", () => {
    const at = (os: string, architecture: string, variant?: string, size = 1) => ({
      mediaType: "m",
      digest,
      size,
      platform: { os, architecture, variant },
    });
    const index = {
      schemaVersion: 2 as const,
      mediaType: "i",
      manifests: [
        at("unknown", "unknown"),
        at("linux", "arm", "v6", 6),
        at("linux", "arm", "v7", 7),
        at("linux", "arm64", undefined, 8),
        at("linux", "amd64", undefined, 9),
      ],
    };
    const choose = (text: string) => choosePlatform(index, parsePlatform(text)).size;
    expect(["linux/arm/v7", "linux/arm", "linux/arm64", "linux/arm64/v8", "linux/amd64"].map(choose)).toEqual([7, 6, 8, 8, 9]);
    expect(() => choose("linux/s390x")).toThrow(
      expect.objectContaining({ code: "NOT_FOUND", message: expect.stringContaining("linux/arm/v7") }),
    );
    for (const text of ["", "linux", "linux/", "a/b/c/d"])
      expect(() => parsePlatform(text)).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
  });
});

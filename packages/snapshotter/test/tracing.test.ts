import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EstargzError, PRIORITY_BACKGROUND, PRIORITY_ON_DEMAND, type ReaderAt } from "@estargz/interface";
import { ROOT_CONTEXT, trace } from "@opentelemetry/api";
import { InMemorySpanExporter, SimpleSpanProcessor, TracerProvider } from "@opentelemetry/sdk-trace";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createOverlaySnapshotter, type OverlaySnapshotter, SnapshotterTracing } from "../src/index.ts";
import { digestOf, FakeLayers } from "./fake-layers.ts";

const LAYER = digestOf("a");
const LABELS = {
  "containerd.io/snapshot.ref": "chain",
  "containerd.io/snapshot/cri.image-ref": "registry.example/app:1",
  "containerd.io/snapshot/cri.layer-digest": LAYER,
  "containerd.io/snapshot/stargz/toc.digest": digestOf("b"),
};
/** The trace that a caller says it is in. */
const CALLER = trace.setSpanContext(ROOT_CONTEXT, { traceId: "1".repeat(32), spanId: "2".repeat(16), traceFlags: 1 });

let folder: string;
let exporter: InMemorySpanExporter;
let provider: TracerProvider;
let tracing: SnapshotterTracing;
let layers: FakeLayers;
let snapshotter: OverlaySnapshotter;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "estargz-tracing-"));
  exporter = new InMemorySpanExporter();
  provider = new TracerProvider({ spanProcessors: [new SimpleSpanProcessor({ exporter })] });
  tracing = new SnapshotterTracing(provider.getTracer("test"));
  layers = new FakeLayers(join(folder, "layers"));
  snapshotter = createOverlaySnapshotter({ root: join(folder, "root"), layers, tracing });
});

afterEach(async () => {
  await snapshotter.close();
  await provider.shutdown();
  await rm(folder, { recursive: true });
});

async function spans() {
  await provider.forceFlush();
  return exporter.getFinishedSpans().map((span) => {
    const { name, attributes, parentSpanContext, status } = span;
    const { spanId: id, traceId } = span.spanContext();
    return { name, attributes, parent: parentSpanContext?.spanId, id, traceId, status };
  });
}

function prepare(): Promise<unknown> {
  return snapshotter.prepare({ key: "key", parent: "", labels: LABELS }, { trace: CALLER });
}

const blob: ReaderAt = {
  size: 10,
  readAt: async () => new Uint8Array(10),
  readTail: async () => ({ bytes: new Uint8Array(10), size: 10 }),
  readRanges: async () => [],
  async *stream() {
    yield new Uint8Array(10);
  },
};

test("a layer that is shown: prepare, in it open, and then the first byte that somebody waited for, in the caller's trace", async () => {
  await expect(prepare()).rejects.toMatchObject({ code: "ALREADY_EXISTS" });
  const location = { reference: "registry.example/app:1", descriptor: { mediaType: "", digest: LAYER, size: -1 } };
  const reader = tracing.traced({ open: () => blob }).open(location);
  await reader.readAt(0, 10, { priority: PRIORITY_BACKGROUND });
  for (let read = 0; read < 2; read += 1) {
    for await (const bytes of reader.stream?.(0, 10, { priority: PRIORITY_ON_DEMAND }) ?? []) expect(bytes.length).toBe(10);
  }
  const found = await spans();
  expect(found.map(({ name }) => name)).toEqual(["open", "prepare", "first byte"]);
  const [open, prepared, firstByte] = found;
  expect(found.map((span) => span.traceId)).toEqual(Array(3).fill("1".repeat(32)));
  expect(prepared?.parent).toBe("2".repeat(16));
  expect([open?.parent, firstByte?.parent]).toEqual([prepared?.id, prepared?.id]);
  expect(prepared?.attributes).toEqual({
    "estargz.snapshot.key": "key",
    "estargz.snapshot.ref": "chain",
    "estargz.reference": "registry.example/app:1",
    "estargz.layer.digest": LAYER,
    "estargz.lazy": true,
  });
  expect(prepared?.status.code).toBe(0);
  expect(firstByte?.attributes).toEqual({ "estargz.layer.digest": LAYER, "estargz.since_shown_ms": expect.any(Number) });
});

test("a layer that is not lazy: prepare says why, and open failed", async () => {
  layers.failure = () => {
    throw new EstargzError("RANGE_UNSUPPORTED", "no ranges here");
  };
  await prepare();
  const [open, prepared] = await spans();
  expect(open).toMatchObject({ name: "open", attributes: { "estargz.code": "RANGE_UNSUPPORTED" }, status: { code: 2 } });
  expect(prepared).toMatchObject({ name: "prepare", attributes: { "estargz.lazy": false, "estargz.fallback.code": "RANGE_UNSUPPORTED" } });
});

test("without a provider nothing is remembered", async () => {
  const silent = new SnapshotterTracing();
  silent.shown(LAYER, ROOT_CONTEXT);
  const location = { reference: "registry.example/app:1", descriptor: { mediaType: "", digest: LAYER, size: -1 } };
  const reader = silent.traced({ open: () => blob }).open(location);
  expect((await reader.readAt(0, 10, { priority: PRIORITY_ON_DEMAND })).length).toBe(10);
  expect(await spans()).toEqual([]);
});

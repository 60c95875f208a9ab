import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { noLogger } from "@estargz/interface";
import { afterEach, beforeEach, expect, it } from "vitest";
import { Decoder, type DecoderOrder } from "../src/fill/decoder.ts";
import { createDigestTable } from "../src/fill/digest-table.ts";
import { LayerFill } from "../src/fill/layer-fill.ts";
import { fillSettings } from "../src/fill/options.ts";
import { FillScheduler } from "../src/fill/scheduler.ts";
import { buildLayerIndex } from "../src/index.ts";
import { LayerStore } from "../src/store/layer-store.ts";
import { nodeStoreFiles } from "../src/store/store-files.ts";
import { randomBytes } from "./content.ts";
import { bytesReader, makeLayer } from "./memory-layer.ts";
import { until } from "./test-source.ts";

let root: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "estargz-loss-"));
});

afterEach(async () => {
  await rm(root, { recursive: true, force: true });
});

it("a decoder that dies loses no read: what it had in hand is asked for again", async () => {
  const { layer, blob } = makeLayer([{ path: "file", content: randomBytes(1, 100_000) }], { chunkSize: 10_000 });
  const index = buildLayerIndex(layer);
  const store = await LayerStore.create(1, join(root, "layer"), index);
  let isDead = true;
  let die: (error: unknown) => void = () => undefined;
  const taken: DecoderOrder[] = [];
  const scheduler = new FillScheduler(
    { settings: fillSettings({ background: "off" }), logger: noLogger, digests: createDigestTable(), reserve: () => true },
    (onResults, onFailure) => {
      die = onFailure;
      const decoder = new Decoder(nodeStoreFiles, onResults);
      const work = (): void => {
        while (decoder.step());
        decoder.flush();
      };
      return {
        order(order) {
          taken.push(order);
          if (order.type === "layer" || !isDead) decoder.take(order);
        },
        wake: () => {
          if (!isDead) setImmediate(work);
        },
        setUrgent: () => undefined,
        async close() {
          decoder.take({ type: "close" });
        },
      };
    },
  );
  const fill = new LayerFill(store, [bytesReader(blob)], scheduler);
  scheduler.add(fill);
  try {
    const inode = index.lookup(0, Buffer.from("file"));
    const read = fill.read(inode, 0, 100_000, undefined);
    await until("the dead decoder has the transfer", () => taken.some((order) => order.type === "transfer"));
    isDead = false;
    die(new Error("out of memory"));
    expect(await read).toBeUndefined();
    expect(layer.chunks.every((chunk) => store.isLive(chunk.index))).toBe(true);
  } finally {
    await scheduler.close();
  }
});

import { rm } from "node:fs/promises";
import { join } from "node:path";
import { EstargzError } from "@estargz/interface";
import { describe, expect, it } from "vitest";
import type { LayerFileSystemEvent } from "../src/index.ts";
import { randomBytes } from "./content.ts";
import { useFileSystem } from "./file-system-fixture.ts";
import { makeLayer } from "./memory-layer.ts";
import { until } from "./test-source.ts";

const fixture = useFileSystem();
const content = randomBytes(1, 500_000);
const made = makeLayer([{ path: "file", content }], { chunkSize: 50_000 });
const identity = { layerDigest: made.digest, tocDigest: made.layer.tocDigest };

function listen(): { events: LayerFileSystemEvent[]; onEvent: (event: LayerFileSystemEvent) => void } {
  const events: LayerFileSystemEvent[] = [];
  return { events, onEvent: (event) => void events.push(event) };
}

describe("events", () => {
  it("tell the local share of a layer, and by which cause its bytes came", async () => {
    const { events, onEvent } = listen();
    const { system, path } = await fixture.attach(made, { onEvent, coverageIntervalMs: 5 });
    await until("an empty layer is told", () => events.length > 0);
    expect(events[0]).toMatchObject({ type: "coverage", ...identity, localBytes: 0, totalBytes: 500_000 });
    await fixture.driver.read(path, "file");
    await until("a whole layer is told", () => events.some((event) => event.type === "coverage" && event.localBytes === 500_000));
    await system.close();
    const last = events.at(-1);
    if (last?.type !== "coverage") throw new Error("the last event is no coverage");
    const { bytes } = system.statistics().fill;
    expect(last.fetchedBytes).toEqual(bytes);
    expect(bytes["on-demand"]).toBeGreaterThan(0);
    // Nothing is told twice.
    const shares = events.map((event) => (event.type === "coverage" ? event.localBytes : -1));
    expect(shares).toEqual([...new Set(shares)].sort((a, b) => a - b));
  });

  it("tell once that a source is unreachable, and that it is back", async () => {
    const { events, onEvent } = listen();
    const { path } = await fixture.attach(made, { onEvent, sourceTimeoutMs: 500 });
    fixture.source.fault = () => {
      throw new EstargzError("REGISTRY_UNAVAILABLE", "connection refused");
    };
    await expect(fixture.driver.read(path, "file", 0, 100)).rejects.toMatchObject({ code: "UNAVAILABLE" });
    fixture.source.fault = undefined;
    expect(await fixture.driver.read(path, "file", 0, 100)).toEqual(content.subarray(0, 100));
    expect(events.filter((event) => event.type !== "coverage")).toEqual([
      { type: "source-unreachable", code: "REGISTRY_UNAVAILABLE", ...identity },
      { type: "source-back", ...identity },
    ]);
  });

  it("tell once that bytes cannot be kept", async () => {
    const { events, onEvent } = listen();
    const { path } = await fixture.attach(made, { onEvent });
    await rm(join(fixture.root, "layers"), { recursive: true });
    expect(await fixture.driver.read(path, "file")).toEqual(content);
    expect(events.filter((event) => event.type === "store-refused")).toEqual([
      { type: "store-refused", code: "ENOENT", directory: expect.stringContaining(fixture.root) as string },
    ]);
  });

  it("reach a listener that throws, and nobody else notices", async () => {
    let told = 0;
    const { system, path } = await fixture.attach(made, {
      coverageIntervalMs: 5,
      onEvent() {
        told++;
        throw new Error("a listener's own mistake");
      },
    });
    expect(await fixture.driver.read(path, "file")).toEqual(content);
    await system.close();
    expect(told).toBeGreaterThan(0);
  });
});

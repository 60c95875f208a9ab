import { mkdtempSync, rmSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { createDevFuseDriver, createFuseNativeDriver, type Driver } from "../src/index.ts";
import { makeDriverLayer } from "./dev-fuse/driver-layer.ts";
import type { TestEntry } from "./memory-layer.ts";

const undo: (() => Promise<void> | void)[] = [];

afterEach(async () => {
  for (const step of undo.splice(0).toReversed()) await step();
});

function makeFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "ezn-"));
  undo.push(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

const drivers = {
  "dev-fuse": (mountRoot: string): Promise<Driver> => createDevFuseDriver({ mountRoot, keeper: false, workers: 1 }),
  "fuse-native": (mountRoot: string): Promise<Driver> => createFuseNativeDriver({ mountRoot }),
};

describe.each(["dev-fuse", "fuse-native"] as const)("%s over a store of somebody else", (name) => {
  // A bit a file and one for the state file: bitmaps of 1, 3 and 4 bytes.
  it.each([3, 20, 31])("reads %i files through a bitmap of no more bytes than they need", async (count) => {
    const folder = makeFolder();
    const entries = Array.from({ length: count }, (_, i): TestEntry => ({ path: `file-${i}`, content: `content ${i}` }));
    const layer = makeDriverLayer({ number: 1, entries, directory: join(folder, "data") });
    expect(layer.store.bitmap.byteLength).toBe(Math.ceil((count + 1) / 8));
    const driver = await drivers[name](join(folder, "m"));
    undo.push(() => driver.close({ unmount: true }));
    const path = await driver.attach(layer);
    await driver.ready();
    for (const { path: file, content } of entries) expect(await readFile(join(path, file), "utf8")).toBe(content);
    expect(layer.fetches).toBe(0);
    expect(driver.statistics()).toMatchObject({ misses: 0, errors: 0 });
  });
});

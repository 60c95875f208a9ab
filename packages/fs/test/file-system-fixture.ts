import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach } from "vitest";
import { createLayerFileSystem, type LayerFileSystemOptions, type LocalLayerFileSystem } from "../src/index.ts";
import { FakeDriver } from "./fake-driver.ts";
import type { MadeLayer } from "./memory-layer.ts";
import { TestSource } from "./test-source.ts";

/** A layer file system over a {@link TestSource} and a {@link FakeDriver}, fresh for each test. */
export interface FileSystemFixture {
  readonly root: string;
  readonly source: TestSource;
  readonly driver: FakeDriver;
  /** Starts one in `root`; with `background: "off"` unless said otherwise. Closed after the test. */
  readonly start: (options?: Partial<LayerFileSystemOptions>) => Promise<LocalLayerFileSystem>;
  /** Starts one and attaches a layer to owner `a`. */
  attach(made: MadeLayer, options?: Partial<LayerFileSystemOptions>): Promise<{ system: LocalLayerFileSystem; path: string }>;
}

/** Sets one up before each test of the file, and takes it away afterwards. */
export function useFileSystem(): FileSystemFixture {
  let root = "";
  let source = new TestSource();
  let driver = new FakeDriver();
  let open: LocalLayerFileSystem[] = [];
  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), "estargz-fs-"));
    source = new TestSource();
    driver = new FakeDriver();
    open = [];
  });
  afterEach(async () => {
    for (const system of open) await system.close({ unmount: true });
    await rm(root, { recursive: true, force: true });
  });
  const start = async (options: Partial<LayerFileSystemOptions> = {}): Promise<LocalLayerFileSystem> => {
    const system = await createLayerFileSystem({ root, source, driver, background: "off", ...options });
    open.push(system);
    return system;
  };
  return {
    get root() {
      return root;
    },
    get source() {
      return source;
    },
    get driver() {
      return driver;
    },
    start,
    async attach(made, options) {
      const system = await start(options);
      const locations = [source.add(made.digest, made.blob)];
      const { path } = await system.attach({ owner: "a", locations, tocDigest: made.layer.tocDigest });
      return { system, path };
    },
  };
}

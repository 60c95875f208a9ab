import { readFileSync } from "node:fs";
import { createDevFuseDriver, createFuseNativeDriver, type DriverLayer, dataFilePath, LayerIndex } from "@estargz/fs";

/** What a server process is started with, as JSON in its first argument. */
export interface ServerStart {
  readonly driver: "dev-fuse" | "fuse-native";
  readonly mountRoot: string;
  readonly indexPath: string;
  readonly dataPath: string;
  readonly workers?: number;
}

/** Opens the tree as a layer whose bytes are all local. */
function openLayer(start: ServerStart): DriverLayer {
  const bytes = readFileSync(start.indexPath);
  const buffer = new SharedArrayBuffer(bytes.length);
  new Uint8Array(buffer).set(bytes);
  const index = LayerIndex.over(buffer);
  const bitmap = new SharedArrayBuffer((index.chunkCount + 7) >> 3);
  new Uint8Array(bitmap).fill(255);
  return {
    number: 1,
    index,
    store: {
      dataPath: start.dataPath,
      bitmap,
      backingPath: (inode) => (index.hasOwnFile(inode) ? dataFilePath(start.dataPath, index, inode) : undefined),
    },
    fetch: async () => undefined,
  };
}

const start = JSON.parse(process.argv[2] ?? "") as ServerStart;
const driver =
  start.driver === "dev-fuse"
    ? await createDevFuseDriver({ mountRoot: start.mountRoot, keeper: false, workers: start.workers ?? 1 })
    : await createFuseNativeDriver({ mountRoot: start.mountRoot });
const path = await driver.attach(openLayer(start));
await driver.ready();
process.send?.({ path });
process.on("message", (message) => {
  if (message === "statistics") process.send?.(driver.statistics());
  // libfuse keeps its process alive after unmounting.
  else void driver.close({ unmount: true }).then(() => (start.driver === "fuse-native" ? process.exit(0) : process.disconnect()));
});

import { execFile } from "node:child_process";
import { open as openFile } from "node:fs/promises";
import { promisify } from "node:util";
import { afterEach, describe, expect, it } from "vitest";
import { createDevFuseDriver, type DevFuseDriver } from "../../src/dev-fuse/dev-fuse-driver.ts";
import { randomBytes } from "../content.ts";
import { makeDriverLayer } from "./driver-layer.ts";
import { cleanUp, testFolder } from "./mounts.ts";

const run = promisify(execFile);
const open: DevFuseDriver[] = [];

async function start(options: Partial<Parameters<typeof createDevFuseDriver>[0]> = {}): Promise<{ driver: DevFuseDriver; folder: string }> {
  const folder = testFolder();
  const driver = await createDevFuseDriver({ mountRoot: folder, keeper: false, workers: 1, ...options });
  open.push(driver);
  return { driver, folder };
}

afterEach(async () => {
  for (const driver of open.splice(0)) await driver.close({ unmount: true });
  cleanUp();
});

const shell = async (script: string): Promise<string> => (await run("sh", ["-c", script], { maxBuffer: 1e8, encoding: "utf8" })).stdout;

const tree = [
  { path: "bin/tool", content: "#!/bin/sh\necho hello\n", mode: 0o755 },
  { path: "bin/link", type: "symlink" as const, link: "tool" },
  { path: "etc/text", content: "0123456789".repeat(2000) },
  { path: "etc/empty", content: "" },
];

describe("dev-fuse driver", () => {
  it("shows a local layer", async () => {
    const { driver, folder } = await start();
    const path = await driver.attach(makeDriverLayer({ number: 7, entries: tree, directory: `${folder}/data` }));
    expect(path).toBe(`${folder}/n/7`);
    expect(await shell(`cd ${path} && find . | sort && bin/link && wc -c <etc/text && cat etc/empty && ls ${folder}/n`)).toBe(
      ".\n./bin\n./bin/link\n./bin/tool\n./etc\n./etc/empty\n./etc/text\nhello\n20000\n7\n",
    );
    expect(driver.statistics().misses).toBe(0);
    expect(driver.statistics().errors).toBe(0);
  });

  it("brings bytes that are not local, once", async () => {
    const { driver, folder } = await start();
    const layer = makeDriverLayer({ number: 1, entries: tree, directory: `${folder}/data`, local: false });
    const path = await driver.attach(layer);
    expect(await shell(`cat ${path}/etc/text ${path}/etc/text`)).toBe("0123456789".repeat(4000));
    expect(layer.fetches).toBe(1);
    const { requests, latencies, misses } = driver.statistics();
    expect(latencies["read"]?.counts.reduce((sum, count) => sum + count)).toBe(requests["read"]);
    expect(latencies["read_miss"]?.counts.reduce((sum, count) => sum + count)).toBe(misses);
    expect(latencies["read_miss"]?.sum).toBeGreaterThan(0);
  });

  it.each([0, 1, 100])("reads what the disk has to bring, many files at a time, looking %i times", async (spins) => {
    const { driver, folder } = await start({ spins });
    const content = randomBytes(3, 3 * 1024 * 1024);
    const layer = makeDriverLayer({ number: 1, entries: [{ path: "file", content }], directory: `${folder}/data` });
    const path = await driver.attach(layer);
    const blocks = content.length / 4096;
    for (let round = 0; round < 3; round += 1) {
      await shell(`sync ${layer.store.dataPath}; dd of=${layer.store.dataPath} oflag=nocache conv=notrunc,fdatasync count=0 2>/dev/null`);
      const readers = Array.from({ length: 8 }, async (_, reader) => {
        const file = await openFile(`${path}/file`);
        try {
          for (let i = 0; i < 60; i += 1) {
            const at = ((i * 37 + reader * 101 + round * 13) % blocks) * 4096;
            const { buffer } = await file.read(Buffer.alloc(4096), 0, 4096, at);
            expect(buffer.equals(content.subarray(at, at + 4096))).toBe(true);
          }
        } finally {
          await file.close();
        }
      });
      await Promise.all(readers);
      await shell(`dd if=${path}/file iflag=nocache count=0 2>/dev/null`);
    }
    expect(driver.statistics().errors).toBe(0);
  });
});

import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { directory, file } from "@estargz/format";
import { type DockerRegistry, startDockerRegistry } from "@estargz/testing";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { noise, pushImage, smallSystem } from "./images.ts";
import { eventually, startNode, type TestNode } from "./node.ts";

const FILES = 40;
const FILE_BYTES = 400_000;

function content(index: number): Uint8Array {
  return noise(`restart ${index}`, FILE_BYTES);
}

function sumOf(index: number): string {
  return createHash("sha256").update(content(index)).digest("hex");
}

/** Reads every file again and again; a line for each round, and one for each failure. */
const READER = `
round=0
while [ ! -e /tmp/stop ]; do
  for f in /data/*; do
    sum=$(sha256sum < $f) || echo "error reading $f"
    [ "$sum" = "$(cat /sums/\${f##*/})  -" ] || echo "wrong bytes in $f: $sum"
    find /data -name nothing || echo "error listing"
  done
  round=$((round + 1))
  echo "round $round"
done
echo "ended"
`;

let registry: DockerRegistry;
let node: TestNode;
let reference: string;

beforeAll(async () => {
  registry = await startDockerRegistry();
  reference = `${registry.address}/reader:1`;
  const numbers = Array.from({ length: FILES }, (_, index) => index);
  await pushImage({
    reference,
    layers: [
      smallSystem(),
      [directory("data"), ...numbers.map((index) => file(`data/${index}`, content(index)))],
      [directory("sums"), ...numbers.map((index) => file(`sums/${index}`, sumOf(index)))],
    ],
    write: { chunkSizeBytes: 65_536 },
  });
  node = await startNode({ withContainerd: true, config: 'fill.background = "off"' });
  await node.pull(reference);
});
afterAll(async () => {
  await node?.stop();
  await registry?.close();
});

/** A container that reads all the time. */
class Reader {
  readonly name: string;
  readonly #log: string;

  constructor(name: string) {
    this.name = name;
    this.#log = join(node.folder, `${name}.log`);
  }

  async start(): Promise<void> {
    await writeFile(this.#log, "");
    const run = ["run", "-d", "--snapshotter=estargz", "--log-uri", `file://${this.#log}`, reference, this.name, "/bin/bash", "-c", READER];
    await node.containerd.ctr(run);
  }

  async lines(): Promise<string[]> {
    return (await readFile(this.#log, "utf8")).split("\n").filter(Boolean);
  }

  rounds(): Promise<number> {
    return this.lines().then((lines) => lines.filter((line) => line.startsWith("round ")).length);
  }

  /** Waits until it has read everything once more. */
  async readsOn(): Promise<void> {
    const before = await this.rounds();
    await eventually(`${this.name} reads everything once more`, async () => (await this.rounds()) > before + 1, 240_000);
  }

  /** Ends it in order and gives everything it complained about. */
  async complaints(): Promise<string[]> {
    await node.containerd.ctr(["tasks", "exec", "--exec-id", `stop-${Date.now()}`, this.name, "/bin/touch", "/tmp/stop"]);
    await eventually(`${this.name} ends`, async () => (await this.lines()).includes("ended"));
    return (await this.lines()).filter((line) => line !== "ended" && !line.startsWith("round "));
  }
}

describe("containers while their snapshotter comes and goes", () => {
  it("notice nothing of 20 kill -9", async () => {
    const readers = ["reader-1", "reader-2"].map((name) => new Reader(name));
    for (const reader of readers) await reader.start();
    for (let kill = 1; kill <= 20; kill += 1) {
      await node.daemon.end("SIGKILL");
      await node.daemon.start();
      if (kill % 5 === 0) await readers[0]?.readsOn();
    }
    for (const reader of readers) await reader.readsOn();
    for (const reader of readers) expect(await reader.complaints()).toEqual([]);
  });

  it("notice nothing of 5 restarts of containerd, and exec works after each", async () => {
    const reader = new Reader("reader-3");
    await reader.start();
    for (let restart = 0; restart < 5; restart += 1) {
      await node.containerd.restart(restart % 2 === 0 ? "SIGKILL" : "SIGTERM");
      const { stdout } = await node.containerd.ctr(["tasks", "exec", "--exec-id", `e${restart}`, "reader-3", "/bin/cat", "/sums/0"]);
      expect(stdout).toBe(sumOf(0));
    }
    await reader.readsOn();
    expect(await reader.complaints()).toEqual([]);
  });

  it("start new containers after all that, and with the registry down, from what is local", async () => {
    await registry.close();
    await node.restartDaemon("SIGKILL");
    const output = await node.run(reference, "offline", ["/bin/bash", "-c", "for f in /data/*; do sha256sum < $f; done"]);
    expect(output.split("\n").filter(Boolean).length).toBe(FILES);
    expect(output).toContain(sumOf(7));
  });
});

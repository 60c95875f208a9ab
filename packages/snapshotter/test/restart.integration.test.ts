import { type DockerRegistry, startDockerRegistry } from "@estargz/testing";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startNode, type TestNode } from "./node.ts";
import { pushReaderImage, Reader, sumOf } from "./reader.ts";

let registry: DockerRegistry;
let node: TestNode;
let image: { reference: string; files: number; fileBytes: number };

beforeAll(async () => {
  registry = await startDockerRegistry();
  image = { reference: `${registry.address}/reader:1`, files: 40, fileBytes: 400_000 };
  await pushReaderImage(image);
  node = await startNode({ withContainerd: true, config: 'fill.background = "off"' });
  await node.pull(image.reference);
});
afterAll(async () => {
  await node?.stop();
  await registry?.close();
});

describe("containers while their snapshotter comes and goes", () => {
  it("notice nothing of 20 kill -9", async () => {
    const readers = ["reader-1", "reader-2"].map((name) => new Reader(node, image.reference, name));
    for (const reader of readers) await reader.start();
    for (let kill = 1; kill <= 20; kill += 1) {
      await node.daemon.end("SIGKILL");
      await node.daemon.start();
      if (kill % 5 === 0) await readers[0]?.readsOn(3);
    }
    for (const reader of readers) await reader.readsAll();
    for (const reader of readers) expect(await reader.complaints()).toEqual([]);
    await node.reached();
  });

  it("notice nothing of 5 restarts of containerd, and exec works after each", async () => {
    const reader = new Reader(node, image.reference, "reader-3");
    await reader.start();
    for (let restart = 0; restart < 5; restart += 1) {
      await node.containerd.restart(restart % 2 === 0 ? "SIGKILL" : "SIGTERM");
      const { stdout } = await node.containerd.ctr(["tasks", "exec", "--exec-id", `e${restart}`, "reader-3", "/bin/cat", "/sums/0"]);
      expect(stdout).toBe(sumOf(image, 0));
    }
    await reader.readsOn(3);
    expect(await reader.complaints()).toEqual([]);
  });

  it("start after all that, with the registry down, from what is local", async () => {
    await registry.close();
    await node.restartDaemon("SIGKILL");
    const output = await node.run(image.reference, "offline", ["/bin/bash", "-c", "for f in /data/*; do sha256sum < $f; done"]);
    expect(output.split("\n").filter(Boolean).length).toBe(image.files);
    expect(output).toContain(sumOf(image, 7));
  });
});

import { mkdtemp, rm } from "node:fs/promises";
import { createServer, request as httpRequest, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { directory, file } from "@estargz/format";
import { type DockerRegistry, startDockerRegistry } from "@estargz/testing";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { connectSnapshotter, parseConfig, type Snapshotter, type SnapshotterDaemon, startSnapshotter } from "../src/index.ts";
import { noise, type PushedImage, pushImage } from "./images.ts";

const LAYERS = 10;

/**
 * A proxy that answers in waves: it holds every request until `together` of them are there, or nothing more has come for a
 * long while. So the number of waves is the number of round trips that depend on each other, whatever the machine's speed.
 */
class WaveProxy {
  readonly #target: string;
  readonly #together: number;
  readonly #held: (() => void)[] = [];
  #timer: NodeJS.Timeout | undefined;
  #server: Server | undefined;
  waves = 0;
  requests = 0;
  address = "";

  constructor(target: string, together: number) {
    this.#target = target;
    this.#together = together;
  }

  async start(): Promise<void> {
    this.#server = createServer((incoming, response) => {
      this.requests += 1;
      this.#held.push(() => this.#forward(incoming, response));
      clearTimeout(this.#timer);
      if (this.#held.length >= this.#together) this.#release();
      else this.#timer = setTimeout(() => this.#release(), 8000);
    });
    await new Promise<void>((resolve) => this.#server?.listen(0, "127.0.0.1", resolve));
    this.address = `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  #release(): void {
    this.waves += 1;
    for (const forward of this.#held.splice(0)) forward();
  }

  #forward(incoming: IncomingMessage, response: ServerResponse): void {
    const onward = httpRequest(
      `http://${this.#target}${incoming.url}`,
      { method: incoming.method, headers: incoming.headers },
      (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
      },
    );
    onward.on("error", () => response.destroy());
    incoming.pipe(onward);
  }

  async close(): Promise<void> {
    clearTimeout(this.#timer);
    this.#server?.closeAllConnections();
    await new Promise<void>((resolve) => {
      if (this.#server === undefined) resolve();
      else this.#server.close(() => resolve());
    });
  }
}

let registry: DockerRegistry;
let proxy: WaveProxy;
let folder: string;
let daemon: SnapshotterDaemon;
let client: Snapshotter;
let image: PushedImage;

beforeAll(async () => {
  registry = await startDockerRegistry();
  const layers = Array.from({ length: LAYERS }, (_, index) => [
    directory(`d${index}`),
    file(`d${index}/f`, noise(`layer ${index}`, 200_000)),
  ]);
  image = await pushImage({ reference: `${registry.address}/waves:1`, layers });
  proxy = new WaveProxy(registry.address, LAYERS);
  await proxy.start();
  folder = await mkdtemp(join(tmpdir(), "estargz-waves-"));
  const toml = ["docker_keychain.enable_keychain = false", 'resolver.config_path = ""', 'fill.background = "off"', "fuse.keeper = false"];
  daemon = await startSnapshotter({ address: join(folder, "sn.sock"), root: join(folder, "sn"), config: parseConfig(toml.join("\n")) });
  client = connectSnapshotter({ address: daemon.address });
});
afterAll(async () => {
  await client?.close();
  await daemon?.close({ unmount: true });
  await proxy?.close();
  await registry?.close();
  if (folder !== undefined) await rm(folder, { recursive: true, force: true });
});

describe("preparing a 10-layer image, one Prepare after the other", () => {
  it("takes one request a layer, all at the same time", async () => {
    const reference = `${proxy.address}/waves:1`;
    let parent = "";
    for (const [index, layer] of image.layers.entries()) {
      const ref = `chain-${index}`;
      const labels = {
        "containerd.io/snapshot.ref": ref,
        "containerd.io/snapshot/cri.image-ref": reference,
        "containerd.io/snapshot/cri.layer-digest": layer.digest,
        "containerd.io/snapshot/cri.image-layers": image.layers
          .slice(index)
          .map((each) => each.digest)
          .join(","),
        ...layer.annotations,
      };
      await expect(client.prepare({ key: `key-${index}`, parent, labels })).rejects.toMatchObject({ code: "ALREADY_EXISTS" });
      parent = ref;
    }
    expect({ requests: proxy.requests, waves: proxy.waves }).toEqual({ requests: LAYERS, waves: 1 });
    // The same layers for another image of the repository: no request at all.
    await expect(
      client.prepare({
        key: "again",
        parent: "",
        labels: {
          "containerd.io/snapshot.ref": "other-chain",
          "containerd.io/snapshot/cri.image-ref": `${proxy.address}/waves:2`,
          "containerd.io/snapshot/cri.layer-digest": image.layers[3]?.digest ?? "",
          ...image.layers[3]?.annotations,
        },
      }),
    ).rejects.toMatchObject({ code: "ALREADY_EXISTS" });
    expect(proxy.requests).toBe(LAYERS);
  });
});

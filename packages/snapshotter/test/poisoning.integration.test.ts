import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { file, writeLayer } from "@estargz/format";
import type { Digest } from "@estargz/interface";
import { type FakeRegistry, runCommand, startFakeRegistry } from "@estargz/testing";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { connectSnapshotter, parseConfig, type Snapshotter, type SnapshotterDaemon, startSnapshotter } from "../src/index.ts";

interface Written {
  readonly bytes: Buffer;
  readonly digest: Digest;
  readonly annotations: Readonly<Record<string, string>>;
}

async function layerWith(text: string): Promise<Written> {
  const output = writeLayer([file("name", text)]);
  const parts: Uint8Array[] = [];
  for await (const part of output.bytes) parts.push(part);
  const { digest, annotations } = await output.result;
  return { bytes: Buffer.concat(parts), digest, annotations };
}

/** A registry that answers every question for any blob with the same bytes. */
async function startLiar(bytes: Buffer): Promise<{ address: string; server: Server }> {
  const server = createServer((request, response) => {
    const suffix = /^bytes=-(\d+)$/.exec(request.headers.range ?? "");
    const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
    const from = suffix === null ? Number(range?.[1] ?? 0) : Math.max(0, bytes.length - Number(suffix[1]));
    const to = range?.[2] ? Math.min(Number(range[2]), bytes.length - 1) : bytes.length - 1;
    const body = bytes.subarray(from, to + 1);
    response.writeHead(206, { "content-range": `bytes ${from}-${to}/${bytes.length}`, "content-length": body.length });
    response.end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, server };
}

let folder: string;
let honest: FakeRegistry;
let daemon: SnapshotterDaemon;
let client: Snapshotter;
let good: Written;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "estargz-poison-"));
  honest = await startFakeRegistry({ profile: "harbor", users: { user: "secret" } });
  good = await layerWith("what the image says\n");
  honest.content.putBlob("private", good.bytes);
  const toml = [
    "docker_keychain.enable_keychain = false",
    'resolver.config_path = ""',
    "snapshotter.unmount_on_exit = true",
    `auth.${JSON.stringify(honest.address)} = { username = "user", password = "secret" }`,
  ];
  daemon = await startSnapshotter({ address: join(folder, "sn.sock"), root: join(folder, "sn"), config: parseConfig(toml.join("\n")) });
  client = connectSnapshotter({ address: daemon.address });
});
afterEach(async () => {
  await client.close();
  await daemon.close();
  await honest.close();
  await rm(folder, { recursive: true, force: true });
});

async function prepare(
  reference: string,
  annotations: Readonly<Record<string, string>>,
  ref: string,
  key: string,
): Promise<"lazy" | "unpacked"> {
  const labels = {
    "containerd.io/snapshot.ref": ref,
    "containerd.io/snapshot/cri.image-ref": reference,
    "containerd.io/snapshot/cri.layer-digest": good.digest,
    ...annotations,
  };
  try {
    await client.prepare({ key, parent: "", labels });
    return "unpacked";
  } catch (error) {
    expect(error).toMatchObject({ code: "ALREADY_EXISTS" });
    return "lazy";
  }
}

/** The file as a container on the snapshot sees it. */
async function read(parent: string): Promise<string> {
  const mounts = await client.view({ key: `view of ${parent}`, parent });
  return (await runCommand("cat", [join(mounts[0]?.source ?? "", "name")])).stdout;
}

describe("images that name one layer digest", () => {
  it("each see their own bytes, whatever the other's registry serves under it", async () => {
    const evil = await layerWith("something else\n");
    const liar = await startLiar(evil.bytes);
    try {
      expect(await prepare(`${liar.address}/popular:1`, evil.annotations, "evil chain", "e")).toBe("lazy");
      expect(await prepare(`${honest.address}/private:1`, good.annotations, "good chain", "g")).toBe("lazy");
      expect(await read("evil chain")).toBe("something else\n");
      expect(await read("good chain")).toBe("what the image says\n");
      // A registry that serves anything under any digest does not get at the local copy of what it does not have.
      expect(await prepare(`${liar.address}/other:1`, good.annotations, "third chain", "t1")).toBe("unpacked");
      expect(await prepare(`${liar.address}/other:1`, good.annotations, "good chain", "t2")).toBe("unpacked");
      for (const key of ["t1", "t2"]) {
        expect((await client.stat(key)).labels["containerd.io/snapshot/remote/estargz.fallback"]).toMatch(/^DIGEST_MISMATCH/);
      }
    } finally {
      liar.server.closeAllConnections();
      await new Promise<void>((resolve) => liar.server.close(() => resolve()));
    }
  });

  it("reach nothing that their own reference would not give them", async () => {
    expect(await prepare(`${honest.address}/private:1`, good.annotations, "private chain", "p")).toBe("lazy");
    // A public repository of another registry that does not have the blob.
    const stranger = await startFakeRegistry();
    try {
      expect(await prepare(`${stranger.address}/public:1`, good.annotations, "private chain", "s1")).toBe("unpacked");
      expect(await prepare(`${stranger.address}/public:1`, good.annotations, "public chain", "s2")).toBe("unpacked");
      // Another repository of the same registry that does not have it either.
      expect(await prepare(`${honest.address}/other:1`, good.annotations, "other chain", "s3")).toBe("unpacked");
      for (const key of ["s1", "s2", "s3"]) {
        const { labels } = await client.stat(key);
        expect(labels["containerd.io/snapshot/remote/estargz.fallback"]).toMatch(/^(?:NOT_FOUND|FORBIDDEN|UNAUTHORIZED)/);
      }
    } finally {
      await stranger.close();
    }
  });
});

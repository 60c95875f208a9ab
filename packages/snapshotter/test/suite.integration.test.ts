import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Containerd, startContainerd } from "@estargz/testing";
import { snapshotterSuite } from "@estargz/testing/suites";
import { afterAll, beforeAll, describe } from "vitest";
import {
  connectSnapshotter,
  createOverlaySnapshotter,
  type GrpcServer,
  type Snapshotter,
  serveGrpc,
  snapshotsRoutes,
} from "../src/index.ts";
import { FakeLayers } from "./fake-layers.ts";

/** A snapshotter of ours in a folder of its own. */
async function own(): Promise<{ snapshotter: Snapshotter; folder: string; remove(): Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), "estargz-sn-"));
  const snapshotter = createOverlaySnapshotter({ root: join(folder, "root"), layers: new FakeLayers(join(folder, "layers")) });
  return {
    snapshotter,
    folder,
    remove: async () => {
      await snapshotter.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

describe("in this process", () => {
  let current: Awaited<ReturnType<typeof own>>;
  snapshotterSuite("ours", {
    setup: async () => {
      current = await own();
      return current.snapshotter;
    },
    teardown: () => current.remove(),
  });
});

describe("over gRPC", () => {
  let current: Awaited<ReturnType<typeof own>>;
  let server: GrpcServer;
  let client: Snapshotter;
  snapshotterSuite("ours", {
    setup: async () => {
      current = await own();
      server = await serveGrpc(join(current.folder, "grpc.sock"), snapshotsRoutes(current.snapshotter));
      client = connectSnapshotter({ address: server.address });
      return client;
    },
    teardown: async () => {
      await client.close();
      await server.close();
      await current.remove();
    },
  });
});

describe("through containerd", () => {
  let current: Awaited<ReturnType<typeof own>>;
  let server: GrpcServer;
  let containerd: Containerd;
  let namespaces = 0;
  beforeAll(async () => {
    current = await own();
    server = await serveGrpc(join(current.folder, "grpc.sock"), snapshotsRoutes(current.snapshotter));
    containerd = await startContainerd({ snapshotters: { estargz: server.address } });
  });
  afterAll(async () => {
    await containerd?.stop();
    await server?.close();
    await current?.remove();
  });
  for (const snapshotter of ["estargz", "overlayfs"]) {
    let client: Snapshotter;
    snapshotterSuite(snapshotter, {
      setup: async () => {
        namespaces += 1;
        client = connectSnapshotter({ address: containerd.address, snapshotter, namespace: `suite-${namespaces}` });
        return client;
      },
      teardown: () => client.close(),
    });
  }
});

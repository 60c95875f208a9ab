import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { AttachedLayer, AttachRequest, LayerFileSystem } from "@estargz/interface";
import { EstargzError, isEstargzError, parseDigest } from "@estargz/interface";
import { connectSnapshotter } from "./client.ts";
import { serveGrpc } from "./grpc-server.ts";
import { createOverlaySnapshotter } from "./overlay-snapshotter.ts";
import { snapshotsRoutes } from "./service.ts";
import { openSqliteStore } from "./sqlite-store.ts";

const CALLS = 40;
const DIGEST = parseDigest(`sha256:${"0".repeat(64)}`);

/** Layers that are there at once, and of which nothing is ever shown. */
class EmptyLayers implements LayerFileSystem {
  async attach({ owner }: AttachRequest): Promise<AttachedLayer> {
    return { owner, path: "/nonexistent", layerDigest: DIGEST, tocDigest: DIGEST };
  }
  expect(): void {}
  get(): undefined {}
  list(): readonly AttachedLayer[] {
    return [];
  }
  async check(): Promise<void> {}
  coverage(): undefined {}
  async detach(): Promise<void> {}
  async collect(): Promise<number> {
    return 0;
  }
  async close(): Promise<void> {}
}

/**
 * Goes through some `Prepare` calls with a snapshotter of its own that keeps nothing: the first image would wait for modules that
 * are not loaded and code that is not compiled yet. Needs some tenths of a second of processor time.
 *
 * @param folder - Made and removed again.
 * @param signal - Ends it early; it does not reject.
 * @throws what hinders it: a folder that cannot be made, a socket that cannot be opened.
 */
export async function rehearse(folder: string, signal: AbortSignal): Promise<void> {
  const snapshotter = createOverlaySnapshotter({ root: folder, layers: new EmptyLayers(), store: openSqliteStore({ path: ":memory:" }) });
  try {
    const server = await serveGrpc(join(folder, "s"), snapshotsRoutes(snapshotter));
    const client = connectSnapshotter({ address: server.address });
    try {
      for (let call = 0; call < CALLS && !signal.aborted; call += 1) {
        const labels = {
          "containerd.io/snapshot.ref": `chain ${call}`,
          "containerd.io/snapshot/cri.image-ref": "rehearsal.invalid/image:1",
          "containerd.io/snapshot/cri.layer-digest": DIGEST,
          "containerd.io/snapshot/cri.image-layers": DIGEST,
          "containerd.io/snapshot/stargz/toc.digest": DIGEST,
        };
        await client.prepare({ key: `key ${call}`, parent: call === 0 ? "" : `chain ${call - 1}`, labels }).catch(expected);
      }
    } finally {
      await client.close();
      await server.close();
    }
  } finally {
    await snapshotter.close();
    await rm(folder, { recursive: true, force: true });
  }
}

function expected(error: unknown): void {
  if (!isEstargzError(error, "ALREADY_EXISTS")) throw new EstargzError("INVALID_RESPONSE", "a rehearsed Prepare failed", { cause: error });
}

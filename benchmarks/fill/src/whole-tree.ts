import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { startShaper } from "@estargz/testing";
import { median, seconds, shell } from "./commands.ts";
import type { BuiltLayer } from "./corpus.ts";
import { mountLayer } from "./mounted.ts";

/** First read of a whole tree with nothing local, lazily and by a full pull; seconds. */
export interface TreeResult {
  readonly files: number;
  readonly pull: number;
  readonly pulledRead: number;
  readonly lazy: number;
  readonly ratio: number;
  readonly requests: number;
}

/** `tar` of the tree over a link of 2 ms and 1 Gbit/s, against pulling, unpacking and reading it through overlayfs. */
export async function measureTree(built: BuiltLayer, registry: string, folder: string, rounds: number): Promise<TreeResult> {
  const shaper = await startShaper({ target: registry, roundTripMs: 2, bitsPerSecond: 1e9 });
  const pulls: number[] = [];
  const reads: number[] = [];
  const lazies: number[] = [];
  let requests = 0;
  try {
    const url = `http://${shaper.address}/v2/bench/${built.name}/blobs/${built.descriptor.digest}`;
    for (let round = 0; round < rounds; round++) {
      const unpacked = join(folder, "unpacked");
      const overlay = join(folder, "overlay");
      await mkdir(unpacked);
      await mkdir(overlay);
      // As containerd does it: the blob is stored first, then unpacked.
      pulls.push(await seconds(() => shell(`curl -sS -o ${folder}/blob ${url} && tar -C ${unpacked} -xzf ${folder}/blob`)));
      await mkdir(join(folder, "empty"), { recursive: true });
      await shell(`mount -t overlay overlay -o ro,lowerdir=${join(folder, "empty")}:${unpacked} ${overlay}`);
      try {
        reads.push(await seconds(() => shell(`tar -C ${overlay} -cf - . | cat > /dev/null`)));
      } finally {
        await shell(`umount ${overlay}`);
      }
      await rm(unpacked, { recursive: true });
      await rm(overlay, { recursive: true });
      const mounted = await mountLayer(built, shaper.address, folder, { background: "off" });
      try {
        lazies.push(await seconds(() => shell(`tar -C ${mounted.path} -cf - . | cat > /dev/null`)));
        const counts = mounted.system.statistics().fill.requests;
        requests = counts["on-demand"] + counts["read-ahead"];
      } finally {
        await mounted.close();
      }
    }
  } finally {
    await shaper.close();
  }
  const files = built.layer.entries.filter((entry) => entry.type === "reg").length;
  const full = median(pulls) + median(reads);
  return { files, pull: median(pulls), pulledRead: median(reads), lazy: median(lazies), ratio: median(lazies) / full, requests };
}

import { createRegistryClient } from "@estargz/registry";
import { startFakeRegistry } from "@estargz/testing";
import { Agent } from "undici";
import { quantile } from "./median.ts";

/** Milliseconds of a small read on a warm connection. */
export interface LatencyResult {
  readonly undiciP50: number;
  readonly estargzP50: number;
  readonly addedP50: number;
  readonly addedP99: number;
}

/** Reads 4 KiB with bare undici and with the client, in turns. */
export async function measureLatency(reads: number): Promise<LatencyResult> {
  const registry = await startFakeRegistry();
  const descriptor = registry.content.putBlob("bench/blob", Buffer.alloc(16 * 1024 * 1024));
  const agent = new Agent();
  await using client = createRegistryClient({ proxy: "none" });
  const blob = client.openBlob({ reference: `${registry.address}/bench/blob`, descriptor });
  const bare = async (from: number): Promise<number> => {
    const start = performance.now();
    const headers = { range: `bytes=${from}-${from + 4095}` };
    const { body } = await agent.request({
      origin: registry.origin,
      path: `/v2/bench/blob/blobs/${descriptor.digest}`,
      method: "GET",
      headers,
    });
    await body.arrayBuffer();
    return performance.now() - start;
  };
  const own = async (from: number): Promise<number> => {
    const start = performance.now();
    await blob.readAt(from, 4096);
    return performance.now() - start;
  };
  const times: { undici: number[]; estargz: number[] } = { undici: [], estargz: [] };
  const pause = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  for (let index = -200; index < reads; index++) {
    const from = ((index + 200) * 4096) % (16 * 1024 * 1024 - 4096);
    const undici = await bare(from);
    await pause();
    const estargz = await own(from);
    await pause();
    if (index % 500 === 0) registry.clear();
    if (index < 0) continue;
    times.undici.push(undici);
    times.estargz.push(estargz);
  }
  await agent.destroy();
  await registry.close();
  const at = (share: number): number => quantile(times.estargz, share) - quantile(times.undici, share);
  return { undiciP50: quantile(times.undici, 0.5), estargzP50: quantile(times.estargz, 0.5), addedP50: at(0.5), addedP99: at(0.99) };
}

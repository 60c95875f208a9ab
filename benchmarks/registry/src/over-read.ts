import { createRegistryClient } from "@estargz/registry";
import { startFakeRegistry } from "@estargz/testing";

/** Bytes and requests of one way of reading. */
export interface OverReadResult {
  readonly workload: string;
  readonly askedBytes: number;
  readonly receivedBytes: number;
  readonly overRead: number;
  readonly reads: number;
  readonly requests: number;
}

const BLOB_BYTES = 64 * 1024 * 1024;

function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** Batches of ranges as a lazily started container asks for them. */
const workloads: Readonly<Record<string, (random: (below: number) => number) => { offset: number; length: number }[]>> = {
  "single chunks at random": (random) => [{ offset: random(BLOB_BYTES - 200_000), length: 20_000 + random(100_000) }],
  "10 small files near each other": (random) => {
    const start = random(BLOB_BYTES - 600_000);
    let at = start;
    return Array.from({ length: 10 }, () => {
      const length = 1000 + random(20_000);
      const range = { offset: at, length };
      at += length + random(3000);
      return range;
    });
  },
  "20 chunks all over": (random) =>
    Array.from({ length: 20 }, () => ({ offset: random(BLOB_BYTES - 200_000), length: 10_000 + random(60_000) })),
};

/** Reads batches from a registry that counts what it sends. */
export async function measureOverRead(batches: number): Promise<OverReadResult[]> {
  const results: OverReadResult[] = [];
  for (const [workload, make] of Object.entries(workloads)) {
    const registry = await startFakeRegistry();
    const descriptor = registry.content.putBlob("bench/blob", Buffer.alloc(BLOB_BYTES));
    await using client = createRegistryClient({ proxy: "none" });
    const blob = client.openBlob({ reference: `${registry.address}/bench/blob`, descriptor });
    const random = numbers(7);
    let askedBytes = 0;
    let reads = 0;
    for (let batch = 0; batch < batches; batch++) {
      const ranges = make(random).toSorted((a, b) => a.offset - b.offset);
      await blob.readRanges(ranges);
      // Overlapping ranges are asked for once.
      let end = 0;
      for (const { offset, length } of ranges) {
        askedBytes += Math.max(0, offset + length - Math.max(end, offset));
        end = Math.max(end, offset + length);
      }
      reads += ranges.length;
    }
    // The registry notes what it sent when it has done so.
    while (registry.requests.some(({ status }) => status === 0)) await new Promise((resolve) => setImmediate(resolve));
    const receivedBytes = registry.requests.reduce((sum, { bytesSent }) => sum + bytesSent, 0);
    results.push({
      workload,
      askedBytes,
      receivedBytes,
      overRead: receivedBytes / askedBytes - 1,
      reads,
      requests: registry.requests.length,
    });
    await registry.close();
  }
  return results;
}

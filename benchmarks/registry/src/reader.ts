// A process of its own, on one CPU: reads 1 MiB ranges with the client or with bare undici, and tells how long it took.
import type { Metrics } from "@estargz/interface";
import { createRegistryClient } from "@estargz/registry";
import { Agent } from "undici";
import type { ThroughputJob } from "./throughput.ts";

const RANGE_BYTES = 1024 * 1024;
let requests = 0;
const nothing = (): void => {};
const metrics: Metrics = {
  counter: ({ name }) => ({ add: (value) => (name === "estargz_registry_requests_total" ? void (requests += value) : undefined) }),
  gauge: () => ({ set: nothing }),
  histogram: () => ({ observe: nothing }),
};
const client = createRegistryClient({ proxy: "none", metrics });
const agent = new Agent();

type Read = (index: number) => Promise<Uint8Array>;

function readerOf(job: ThroughputJob): Read {
  const { address, repository, descriptor } = job;
  const offset = (index: number): number => (index * RANGE_BYTES) % descriptor.size;
  if (job.kind === "estargz") {
    const blob = client.openBlob({ reference: `${address}/${repository}`, descriptor });
    return (index) => blob.readAt(offset(index), RANGE_BYTES);
  }
  const path = `/v2/${repository}/blobs/${descriptor.digest}`;
  return async (index) => {
    const from = offset(index);
    const headers = { range: `bytes=${from}-${from + RANGE_BYTES - 1}` };
    const { body } = await agent.request({ origin: `http://${address}`, path, method: "GET", headers });
    return new Uint8Array(await body.arrayBuffer());
  };
}

process.on("message", (job: ThroughputJob) => {
  const read = readerOf(job);
  const start = performance.now();
  const before = requests;
  let index = 0;
  const lane = async (): Promise<void> => {
    while (index < job.ranges) {
      const { length } = await read(index++);
      if (length !== RANGE_BYTES) throw new Error(`read ${length} bytes`);
    }
  };
  void Promise.all(Array.from({ length: job.concurrency }, lane)).then(() =>
    process.send?.({ seconds: (performance.now() - start) / 1000, requests: requests - before }),
  );
});
process.on("disconnect", () => process.exit());

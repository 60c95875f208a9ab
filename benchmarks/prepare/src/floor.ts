import { Agent, request } from "node:http";
import type { Descriptor } from "@estargz/interface";

const TAIL_BYTES = 13 * 1024;

function readTail(address: string, repository: string, layer: Descriptor): Promise<void> {
  return new Promise((resolve, reject) => {
    const agent = new Agent();
    const headers = { range: `bytes=-${TAIL_BYTES}` };
    const outgoing = request(`http://${address}/v2/${repository}/blobs/${layer.digest}`, { agent, headers }, (answer) => {
      answer.resume();
      answer.once("end", () => {
        agent.destroy();
        resolve();
      });
    });
    outgoing.once("error", reject);
    outgoing.end();
  });
}

/** What the link and the registry need for the same bytes: all layers' ends at once, by node:http and nothing else. */
export async function readTails(address: string, repository: string, layers: readonly Descriptor[]): Promise<number> {
  const started = performance.now();
  await Promise.all(layers.map((layer) => readTail(address, repository, layer)));
  return performance.now() - started;
}

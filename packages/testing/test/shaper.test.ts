import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import { measureLink, type Shaper, startShaper } from "../src/index.ts";

const body = Buffer.alloc(400_000, 7);
const cleanups: (() => unknown)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

async function start(roundTripMs: number, bitsPerSecond: number): Promise<Shaper> {
  const server = createServer((request, response) => response.end(request.url === "/big" ? body : "ok"));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  cleanups.push(
    () => server.close(),
    () => server.closeAllConnections(),
  );
  const shaper = await startShaper({ target: `127.0.0.1:${port}`, roundTripMs, bitsPerSecond });
  cleanups.push(() => shaper.close());
  return shaper;
}

test("costs a round trip for each request and no more than its rate", async () => {
  const { address } = await start(40, 8_000_000);
  const link = await measureLink(address, { path: "/", downloadPath: "/big" });
  // A loaded machine makes a link slower, never faster.
  expect(link.roundTripMs).toBeGreaterThanOrEqual(38);
  expect(link.bitsPerSecond).toBeLessThan(12_000_000);
});

test("carries bytes unchanged and counts them", async () => {
  const link = await start(0, 1e9);
  const answers = await Promise.all([1, 2, 3].map(async () => (await fetch(`http://${link.address}/big`)).bytes()));
  for (const bytes of answers) expect(Buffer.compare(bytes, body)).toBe(0);
  const { bytesDown, bytesUp, connections, requests } = await link.statistics();
  expect(bytesDown).toBeGreaterThan(3 * body.length);
  expect(bytesUp).toBeGreaterThan(0);
  expect(connections).toBe(3);
  expect(requests).toBe(3);
});

import { Agent, get, type IncomingMessage } from "node:http";
import { EstargzError } from "@estargz/interface";

/** What {@link measureLink} found. */
export interface LinkMeasurement {
  /** Median time of a small request on a warm connection, in milliseconds. */
  readonly roundTripMs: number;
  /** Rate of one large download; `undefined` without a `downloadPath`. */
  readonly bitsPerSecond: number | undefined;
}

/** Options of {@link measureLink}. */
export interface MeasureLinkOptions {
  /** Path of a small answer. Default `/v2/`. */
  readonly path?: string | undefined;
  /** Path of a large answer (some MiB at least) to measure the rate with. */
  readonly downloadPath?: string | undefined;
  /** Small requests to take the median of. Default 5. */
  readonly samples?: number | undefined;
}

interface Timed {
  readonly firstByteMs: number;
  readonly totalMs: number;
  readonly bytes: number;
}

function timedGet(url: string, agent: Agent): Promise<Timed> {
  return new Promise((resolve, reject) => {
    const start = performance.now();
    get(url, { agent }, (response: IncomingMessage) => {
      const firstByteMs = performance.now() - start;
      let bytes = 0;
      response.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
      });
      response.on("end", () => resolve({ firstByteMs, totalMs: performance.now() - start, bytes }));
      response.on("error", reject);
    }).on("error", reject);
  });
}

/** Measures round trip and rate of the way to an HTTP server at `address` (`host:port`), from outside. */
export async function measureLink(address: string, options: MeasureLinkOptions = {}): Promise<LinkMeasurement> {
  const { path = "/v2/", downloadPath, samples = 5 } = options;
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  try {
    await timedGet(`http://${address}${path}`, agent);
    const times: number[] = [];
    for (let sample = 0; sample < samples; sample++) times.push((await timedGet(`http://${address}${path}`, agent)).totalMs);
    times.sort((a, b) => a - b);
    const roundTripMs = times[Math.floor(times.length / 2)];
    if (roundTripMs === undefined) throw new EstargzError("INVALID_ARGUMENT", "samples must be at least 1");
    if (downloadPath === undefined) return { roundTripMs, bitsPerSecond: undefined };
    const download = await timedGet(`http://${address}${downloadPath}`, agent);
    return { roundTripMs, bitsPerSecond: (download.bytes * 8000) / Math.max(0.001, download.totalMs - download.firstByteMs) };
  } finally {
    agent.destroy();
  }
}

import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { LayerSource, ReaderAt } from "@estargz/interface";
import { seconds, shell } from "./commands.ts";
import type { BuiltLayer } from "./corpus.ts";
import { type Latency, measureLatency } from "./latency.ts";
import { mountLayer, untilLocal } from "./mounted.ts";

/** Local reads at 200 a second by themselves and beside something; microseconds. */
export interface BesideResult {
  readonly idle: Latency;
  readonly beside: Latency;
  /** p99 beside it, over p99 by itself. */
  readonly ratio: number;
}

const PER_SECOND = 200;
const MIN_READS = 100;

async function listFiles(built: BuiltLayer, path: string, folder: string): Promise<string> {
  const files = built.layer.entries
    .filter((entry) => entry.type === "reg" && entry.size > 0 && !entry.path.startsWith("."))
    .map((entry) => join(path, entry.path));
  const list = join(folder, "list");
  await writeFile(list, files.join("\n"));
  return list;
}

/** Local reads while another layer fills at full bandwidth, and how soon a read that misses gets its bytes meanwhile. */
export async function measureBesideFill(
  small: BuiltLayer,
  large: BuiltLayer,
  registry: string,
  folder: string,
  reads: number,
): Promise<BesideResult & { readonly missSeconds: number; readonly fillSeconds: number; readonly overtakes: number }> {
  const mounted = await mountLayer(small, registry, folder, { background: "full" });
  try {
    await untilLocal(mounted.system, "layer");
    const list = await listFiles(small, mounted.path, folder);
    const idle = await measureLatency(list, 0, reads, PER_SECOND);
    let next = reads;
    const times: Latency[] = [];
    let missSeconds = 0;
    let fillSeconds = 0;
    // As many fills as it takes for as many reads.
    for (let round = 0; next + MIN_READS <= 2 * reads; round++) {
      const owner = `large-${round}`;
      const path = await mounted.attach(large, owner);
      const filling = seconds(() => untilLocal(mounted.system, owner));
      const last = large.layer.chunks.reduce((best, chunk) => (chunk.blobOffset > best.blobOffset ? chunk : best));
      const name = large.layer.entries[last.entry]?.path ?? "";
      const miss = seconds(() => shell(`tail -c 1 "${join(path, name)}" > /dev/null`));
      const share = Math.min(2 * reads - next, Math.max(MIN_READS, Math.floor(reads / 3)));
      times.push(await measureLatency(list, next, share, PER_SECOND));
      next += share;
      missSeconds = await miss;
      fillSeconds = await filling;
      await mounted.system.detach(owner);
      await mounted.system.collect();
    }
    const beside = {
      p50: Math.max(...times.map((one) => one.p50)),
      p99: times.map((one) => one.p99).sort((a, b) => a - b)[Math.floor(times.length / 2)] ?? 0,
    };
    return { idle, beside, ratio: beside.p99 / idle.p99, missSeconds, fillSeconds, overtakes: missSeconds / fillSeconds };
  } finally {
    await mounted.close();
  }
}

/** Local reads while 64 others wait for a source that gives nothing. */
export async function measureBesideStall(
  small: BuiltLayer,
  stalled: BuiltLayer,
  registry: string,
  folder: string,
  reads: number,
): Promise<BesideResult> {
  let isStalled = false;
  const wrap = (source: LayerSource): LayerSource => ({
    open: (location) =>
      location.descriptor.digest === stalled.descriptor.digest
        ? stallingReader(source.open(location), () => isStalled)
        : source.open(location),
  });
  const mounted = await mountLayer(
    small,
    registry,
    folder,
    { background: "full", sourceTimeoutMs: 100_000, stallTimeoutMs: 100_000 },
    wrap,
  );
  try {
    await untilLocal(mounted.system, "layer");
    const list = await listFiles(small, mounted.path, folder);
    const idle = await measureLatency(list, 0, reads, PER_SECOND);
    isStalled = true;
    const path = await mounted.attach(stalled, "stalled");
    const names = stalled.layer.entries
      .filter((entry) => entry.type === "reg" && entry.size > 0 && !entry.path.startsWith("."))
      .slice(0, 64);
    const waiting = shell(
      names.map((entry) => `timeout -s KILL 120 head -c 1 "${join(path, entry.path)}" > /dev/null 2>&1 &`).join("\n") + "\nwait; true",
    );
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const beside = await measureLatency(list, reads, reads, PER_SECOND);
    isStalled = false;
    await waiting;
    await mounted.system.detach("stalled");
    return { idle, beside, ratio: beside.p99 / idle.p99 };
  } finally {
    await mounted.close();
  }
}

function stallingReader(reader: ReaderAt, isStalled: () => boolean): ReaderAt {
  const stall = async (signal: AbortSignal | undefined): Promise<void> => {
    while (isStalled()) {
      signal?.throwIfAborted();
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  };
  return {
    get size() {
      return reader.size;
    },
    readAt: async (offset, length, options) => {
      await stall(options?.signal);
      return reader.readAt(offset, length, options);
    },
    // Opening the layer goes through.
    readTail: (length, options) => reader.readTail(length, options),
    readRanges: async (ranges, options) => {
      await stall(options?.signal);
      return reader.readRanges(ranges, options);
    },
    async *stream(offset, length, options) {
      await stall(options?.signal);
      if (reader.stream !== undefined) yield* reader.stream(offset, length, options);
    },
  };
}

import { type ChildProcess, fork, spawn } from "node:child_process";
import { rm, writeFile } from "node:fs/promises";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Descriptor } from "@estargz/interface";
import { createRegistryClient, digestOf } from "@estargz/registry";
import { nodeFlags, startDockerRegistry } from "@estargz/testing";
import { median } from "./median.ts";

const RANGE_BYTES = 1024 * 1024;

/** Megabytes a second of each, by how many requests are in flight. */
export interface ThroughputResult {
  readonly concurrency: number;
  readonly curl: number;
  readonly estargz: number;
  readonly undici: number;
  readonly ratioToCurl: number;
  readonly ratioToUndici: number;
  readonly requests: { readonly curl: number; readonly estargz: number };
}

/** What a child process is asked to do. */
export interface ThroughputJob {
  readonly kind: "estargz" | "undici";
  readonly address: string;
  readonly repository: string;
  readonly descriptor: Descriptor;
  readonly ranges: number;
  readonly concurrency: number;
}

function pin(pid: number | undefined, cpu: number): void {
  if (pid !== undefined && cpus().length > 1)
    spawn("taskset", ["-acp", String(cpu), String(pid)], { stdio: "ignore" }).on("error", () => {});
}

function next<T>(child: ChildProcess): Promise<T> {
  return new Promise((resolve, reject) => {
    const ended = (): void => reject(new Error("the reader ended"));
    child.once("exit", ended);
    child.once("message", (message) => {
      child.off("exit", ended);
      resolve(message as T);
    });
  });
}

/** Seconds of one curl run over `ranges` ranges on kept connections, without its start. */
async function curlSeconds(url: string, blobBytes: number, ranges: number, concurrency: number): Promise<number> {
  const run = async (count: number): Promise<number> => {
    const lines: string[] = [];
    for (let index = 0; index < count; index++) {
      const from = (index * RANGE_BYTES) % blobBytes;
      lines.push(`url="${url}"\nrange="${from}-${from + RANGE_BYTES - 1}"\noutput="/dev/null"\nsilent\nfail`);
    }
    const file = join(tmpdir(), `estargz-curl-${process.pid}`);
    await writeFile(file, lines.join("\nnext\n"));
    const parallel = concurrency > 1 ? ["--parallel", "--parallel-immediate", "--parallel-max", String(concurrency)] : [];
    const command = cpus().length > 1 ? ["taskset", "-c", "0", "curl"] : ["curl"];
    const start = performance.now();
    const child = spawn(command[0] ?? "curl", [...command.slice(1), ...parallel, "-K", file], { stdio: "ignore" });
    const code = await new Promise((resolve) => child.once("exit", resolve));
    const seconds = (performance.now() - start) / 1000;
    await rm(file);
    if (code !== 0) throw new Error(`curl ended with ${code}`);
    return seconds;
  };
  const started = await run(1);
  return (await run(ranges)) - started;
}

/** Reads the same ranges of one blob from docker-registry with curl, with the client, and with bare undici, in turns. */
export async function measureThroughput(options: {
  readonly blobMiB: number;
  readonly ranges: number;
  readonly rounds: number;
}): Promise<ThroughputResult[]> {
  const { blobMiB, ranges, rounds } = options;
  const registry = await startDockerRegistry();
  const repository = "bench/blob";
  const children: ChildProcess[] = [];
  try {
    const bytes = Buffer.alloc(blobMiB * 1024 * 1024);
    for (let at = 0; at < bytes.length; at += 4096) bytes.writeUInt32LE(at, at);
    const descriptor: Descriptor = { mediaType: "application/octet-stream", digest: digestOf(bytes), size: bytes.length };
    await using client = createRegistryClient({ proxy: "none" });
    await client.repository(`${registry.address}/${repository}`).pushBlob(descriptor, bytes);
    pin(registry.pid, 1);
    const readers: Record<string, ChildProcess> = {};
    for (const kind of ["estargz", "undici"]) {
      const child = fork(fileURLToPath(new URL("./reader.ts", import.meta.url)), {
        execArgv: [...nodeFlags, "--conditions=@estargz/source"],
      });
      children.push(child);
      pin(child.pid, 0);
      readers[kind] = child;
    }
    const read = async (
      kind: ThroughputJob["kind"],
      count: number,
      concurrency: number,
    ): Promise<{ seconds: number; requests: number }> => {
      const child = readers[kind] as ChildProcess;
      const answer = next<{ seconds: number; requests: number }>(child);
      child.send({ kind, address: registry.address, repository, descriptor, ranges: count, concurrency } satisfies ThroughputJob);
      return answer;
    };
    const url = `http://${registry.address}/v2/${repository}/blobs/${descriptor.digest}`;
    for (const kind of ["estargz", "undici"] as const) await read(kind, Math.min(ranges, 200), 2);
    const results: ThroughputResult[] = [];
    for (const concurrency of [1, 4]) {
      const seconds: Record<string, number[]> = { curl: [], estargz: [], undici: [] };
      const ratios: { curl: number[]; undici: number[] } = { curl: [], undici: [] };
      let requests = 0;
      for (let round = 0; round < rounds; round++) {
        const curl = await curlSeconds(url, bytes.length, ranges, concurrency);
        const own = await read("estargz", ranges, concurrency);
        const undici = await read("undici", ranges, concurrency);
        requests = own.requests;
        seconds["curl"]?.push(curl);
        seconds["estargz"]?.push(own.seconds);
        seconds["undici"]?.push(undici.seconds);
        ratios.curl.push(curl / own.seconds);
        ratios.undici.push(undici.seconds / own.seconds);
      }
      const rate = (name: string): number => (ranges * RANGE_BYTES) / 1e6 / median(seconds[name] ?? []);
      results.push({
        concurrency,
        curl: rate("curl"),
        estargz: rate("estargz"),
        undici: rate("undici"),
        ratioToCurl: median(ratios.curl),
        ratioToUndici: median(ratios.undici),
        requests: { curl: ranges, estargz: requests },
      });
    }
    return results;
  } finally {
    for (const child of children) child.kill("SIGKILL");
    await registry.close();
  }
}

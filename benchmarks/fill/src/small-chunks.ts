import { randomInt } from "node:crypto";
import { join } from "node:path";
import { startShaper } from "@estargz/testing";
import { median, seconds, shell } from "./commands.ts";
import type { BuiltLayer } from "./corpus.ts";
import { mountLayer } from "./mounted.ts";

/** A file read once from front to end over a link, against curl of the same bytes. */
export interface SequentialResult {
  readonly curlSeconds: number;
  readonly readSeconds: number;
  readonly ratio: number;
  readonly requests: number;
}

/** 200 random reads of 4 KiB. */
export interface RandomResult {
  readonly reads: number;
  readonly requests: number;
  readonly fetchedBytes: number;
  readonly touchedBytes: number;
  readonly ratio: number;
}

/** Reads the layer's one file over a link of 20 ms and 200 Mbit/s. */
export async function measureSequential(built: BuiltLayer, registry: string, folder: string, rounds: number): Promise<SequentialResult> {
  const shaper = await startShaper({ target: registry, roundTripMs: 20, bitsPerSecond: 200e6 });
  try {
    const curls: number[] = [];
    const reads: number[] = [];
    let requests = 0;
    const url = `http://${shaper.address}/v2/bench/${built.name}/blobs/${built.descriptor.digest}`;
    for (let round = 0; round < rounds; round++) {
      curls.push(await seconds(() => shell(`curl -sS -o /dev/null -r 0-${built.layer.payloadEnd - 1} ${url}`)));
      const mounted = await mountLayer(built, shaper.address, folder, { background: "off" });
      try {
        reads.push(await seconds(() => shell(`dd if=${join(mounted.path, "file")} of=/dev/null bs=128k status=none`)));
        const counts = mounted.system.statistics().fill.requests;
        requests = counts["on-demand"] + counts["read-ahead"];
      } finally {
        await mounted.close();
      }
    }
    return { curlSeconds: median(curls), readSeconds: median(reads), ratio: median(reads) / median(curls), requests };
  } finally {
    await shaper.close();
  }
}

/** Reads 4 KiB at random places of the file, one after the other. */
export async function measureRandom(built: BuiltLayer, registry: string, folder: string, reads: number): Promise<RandomResult> {
  const shaper = await startShaper({ target: registry, roundTripMs: 20, bitsPerSecond: 200e6 });
  const mounted = await mountLayer(built, shaper.address, folder, { background: "off" });
  try {
    const entry = built.layer.lookup("file");
    if (entry === undefined) throw new Error("the layer has no file");
    const blocks = Array.from({ length: reads }, () => randomInt(Math.floor(entry.size / 4096)));
    const touched = new Set<number>();
    let touchedBytes = 0;
    for (const block of blocks) {
      const chunk = entry.chunks.findLast((one) => one.fileOffset <= block * 4096);
      if (chunk === undefined || touched.has(chunk.index)) continue;
      touched.add(chunk.index);
      touchedBytes += built.layer.span(chunk).length;
    }
    const program =
      "import os,sys\nf=os.open(sys.argv[1],os.O_RDONLY)\nos.posix_fadvise(f,0,0,os.POSIX_FADV_RANDOM)\n" +
      "for b in sys.argv[2].split(','):\n  assert len(os.pread(f,4096,int(b)*4096))==4096\n";
    await shell(
      `python3 -c "$(echo ${Buffer.from(program).toString("base64")} | base64 -d)" ${join(mounted.path, "file")} ${blocks.join(",")}`,
    );
    const { requests, bytes } = mounted.system.statistics().fill;
    const fetchedBytes = bytes["on-demand"] + bytes["read-ahead"];
    return {
      reads,
      requests: requests["on-demand"] + requests["read-ahead"],
      fetchedBytes,
      touchedBytes,
      ratio: fetchedBytes / touchedBytes,
    };
  } finally {
    await mounted.close();
    await shaper.close();
  }
}

import type { MemberCompressor, Runtime } from "../runtime/runtime.ts";

/** Some members in one buffer, to be compressed by themselves. Plain data: it goes to a worker as it is. */
export interface Batch {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Where each member starts; the first is at 0. */
  readonly starts: readonly number[];
  /** Ranges of which a digest is wanted: offset and length in turns. */
  readonly hashes: readonly number[];
}

/** What becomes of a batch. */
export interface CompressedBatch {
  /** The members, one after the other. */
  readonly bytes: Uint8Array;
  readonly lengths: readonly number[];
  /** SHA-256 of each range asked for, in hexadecimal. */
  readonly digests: readonly string[];
}

/** How members are compressed. */
export interface CompressionSettings {
  readonly format: "gzip" | "zstd";
  readonly level: number;
}

/** Compresses batches, perhaps several at a time. Each gives the same bytes wherever it runs. */
export interface BatchPool {
  run(batch: Batch): Promise<CompressedBatch>;
  close(): Promise<void>;
}

/** Makes the function that compresses a batch on this thread; `undefined` if the runtime can't write the format. */
export function createBatchCompressor(
  runtime: Pick<Runtime, "sha256" | "createCompressor">,
  settings: CompressionSettings,
): ((batch: Batch) => CompressedBatch) | undefined {
  if (runtime.createCompressor(settings.format, settings.level) === undefined) return undefined;
  return ({ bytes, starts, hashes }) => {
    // A new context for each batch: the deflate of Node isn't quite the same after a reset, so what a context did before has to
    // be the same wherever a batch is compressed.
    const compressor = runtime.createCompressor(settings.format, settings.level) as MemberCompressor;
    const members = starts.map((start, i) => compressor.compress([bytes.subarray(start, starts[i + 1] ?? bytes.length)]));
    const digests: string[] = [];
    for (let i = 0; i < hashes.length; i += 2) {
      const from = hashes[i] as number;
      digests.push(runtime.sha256(bytes.subarray(from, from + (hashes[i + 1] as number))));
    }
    return { bytes: joinMembers(members), lengths: members.map((member) => member.length), digests };
  };
}

function joinMembers(members: readonly Uint8Array[]): Uint8Array {
  if (members.length === 1) return members[0] as Uint8Array;
  const joined = new Uint8Array(members.reduce((sum, member) => sum + member.length, 0));
  let at = 0;
  for (const member of members) {
    joined.set(member, at);
    at += member.length;
  }
  return joined;
}

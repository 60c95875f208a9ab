import type { Digest } from "@estargz/interface";
import { invalidEntry } from "./entry-fields.ts";
import type { RawTocEntry } from "./toc-json.ts";

/** Chunks of all files in columns, in the TOC's order. */
export class ChunkColumns {
  readonly rows: number[] = [];
  readonly fileOffsets: number[] = [];
  readonly lengths: number[] = [];
  readonly blobOffsets: number[] = [];
  readonly innerOffsets: number[] = [];
  readonly digests: (Digest | undefined)[] = [];
  /** Numbers of the chunks that are runs of zeros. */
  readonly zeros: Set<number> = new Set();

  get count(): number {
    return this.rows.length;
  }

  add(
    row: number,
    fileOffset: number,
    length: number,
    blobOffset: number,
    innerOffset: number,
    zeros: boolean,
    digest: Digest | undefined,
  ): void {
    if (zeros) this.zeros.add(this.rows.length);
    this.rows.push(row);
    this.fileOffsets.push(fileOffset);
    this.lengths.push(length);
    this.blobOffsets.push(blobOffset);
    this.innerOffsets.push(innerOffset);
    this.digests.push(digest);
  }
}

/** Whether an entry's chunk is a run of zeros that takes no bytes (containers/storage, `chunkType`). */
export function readChunkType(entry: RawTocEntry): boolean {
  const type = entry.chunkType;
  if (type === undefined || type === null || type === "") return false;
  if (type === "zeros") return true;
  throw invalidEntry(entry.name, `its chunkType is ${String(JSON.stringify(type)).slice(0, 40)}`);
}

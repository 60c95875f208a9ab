/** Chunks of all files in columns, in the TOC's order. The columns are longer than `count`, and others after an addition. */
export class ChunkColumns {
  fileOffsets: Float64Array;
  lengths: Float64Array;
  blobOffsets: Float64Array;
  innerOffsets: Float64Array;
  /** References in the table's `digestTexts`. */
  digests: Int32Array;
  /** Numbers of the chunks that are runs of zeros. */
  readonly zeros: Set<number> = new Set();
  count = 0;

  /** @param capacity - How many chunks there are likely to be. */
  constructor(capacity: number) {
    this.fileOffsets = new Float64Array(capacity);
    this.lengths = new Float64Array(capacity);
    this.blobOffsets = new Float64Array(capacity);
    this.innerOffsets = new Float64Array(capacity);
    this.digests = new Int32Array(capacity);
  }

  #grow(): void {
    const capacity = this.lengths.length * 2 + 1;
    this.fileOffsets = grown(this.fileOffsets, new Float64Array(capacity));
    this.lengths = grown(this.lengths, new Float64Array(capacity));
    this.blobOffsets = grown(this.blobOffsets, new Float64Array(capacity));
    this.innerOffsets = grown(this.innerOffsets, new Float64Array(capacity));
    this.digests = grown(this.digests, new Int32Array(capacity));
  }

  add(fileOffset: number, length: number, blobOffset: number, innerOffset: number, zeros: boolean, digest: number): void {
    if (this.count === this.lengths.length) this.#grow();
    const chunk = this.count++;
    if (zeros) this.zeros.add(chunk);
    this.fileOffsets[chunk] = fileOffset;
    this.lengths[chunk] = length;
    this.blobOffsets[chunk] = blobOffset;
    this.innerOffsets[chunk] = innerOffset;
    this.digests[chunk] = digest;
  }
}

/** A column in a longer one. */
export function grown<T extends Float64Array | Int32Array | Uint32Array | Uint16Array | Uint8Array>(from: T, into: T): T {
  into.set(from);
  return into;
}

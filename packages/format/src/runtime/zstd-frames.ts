import { concatBytes } from "../bytes.ts";
import { invalidCompression } from "./gzip-header.ts";
import { MAX_ZSTD_WINDOW_BYTES, zstdWindowBytes } from "./zstd-frame.ts";

/** Longest frame header (RFC 8878, 3.1.1.1). */
const MAX_HEADER_BYTES = 18;

/**
 * Follows the frames of a zstd stream by their headers (RFC 8878, 3.1.1): says whether it was cut off, and refuses frames that ask
 * for a large window before any decoder sees them.
 */
export class ZstdFrames {
  #head: Uint8Array = new Uint8Array(0);
  #skip = 0;
  #state: "frame" | "block" = "frame";
  #checksum = false;
  #frames = 0;
  readonly #maxWindowBytes: number;

  constructor(maxWindowBytes: number = MAX_ZSTD_WINDOW_BYTES) {
    this.#maxWindowBytes = maxWindowBytes;
  }

  /** Whether the bytes so far end with a whole frame. */
  get isBetween(): boolean {
    return this.#state === "frame" && this.#skip === 0 && this.#head.length === 0;
  }

  /** Takes the next bytes of the stream. Throws `INVALID_COMPRESSION` for what is no frame. */
  push(bytes: Uint8Array): void {
    let rest = this.#head.length === 0 ? bytes : concatBytes([this.#head, bytes]);
    this.#head = new Uint8Array(0);
    for (;;) {
      const skipped = Math.min(this.#skip, rest.length);
      this.#skip -= skipped;
      rest = rest.subarray(skipped);
      if (this.#skip > 0 || rest.length === 0) return;
      const used = this.#state === "frame" ? this.#readFrameHeader(rest) : this.#readBlockHeader(rest);
      if (used === 0) {
        this.#head = rest.slice();
        return;
      }
      rest = rest.subarray(used);
    }
  }

  /** Says that the stream has ended. Throws `INVALID_COMPRESSION` if that was inside of a frame. */
  end(): void {
    if (this.#frames === 0 && this.#head.length === 0) throw invalidCompression("zstd", "it is empty");
    if (!this.isBetween) throw invalidCompression("zstd", "it is cut off");
  }

  #readFrameHeader(bytes: Uint8Array): number {
    const isSkippable = bytes.length >= 4 && bytes[1] === 0x2a && bytes[2] === 0x4d && bytes[3] === 0x18;
    if (bytes.length < 8) return 0;
    if (isSkippable) {
      zstdWindowBytes(bytes, 0);
      this.#frames += 1;
      this.#skip = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(4, true);
      return 8;
    }
    const descriptor = bytes[4] as number;
    const single = (descriptor & 0x20) !== 0;
    const sizeBytes = [single ? 1 : 0, 2, 4, 8][descriptor >> 6] as number;
    const length = 5 + (single ? 0 : 1) + ([0, 1, 2, 4][descriptor & 3] as number) + sizeBytes;
    // The shortest frame that isn't skippable has a block header after its own.
    if (bytes.length < Math.min(length, MAX_HEADER_BYTES)) return 0;
    const window = zstdWindowBytes(bytes, 0);
    if (window > this.#maxWindowBytes)
      throw invalidCompression("zstd", `its frame asks for a window of ${window} bytes, above ${this.#maxWindowBytes}`);
    this.#frames += 1;
    this.#checksum = (descriptor & 4) !== 0;
    this.#state = "block";
    return length;
  }

  #readBlockHeader(bytes: Uint8Array): number {
    if (bytes.length < 3) return 0;
    const header = (bytes[0] as number) | ((bytes[1] as number) << 8) | ((bytes[2] as number) << 16);
    const type = (header >> 1) & 3;
    if (type === 3) throw invalidCompression("zstd", "a block has a reserved type");
    this.#skip = type === 1 ? 1 : header >> 3;
    if ((header & 1) !== 0) {
      this.#skip += this.#checksum ? 4 : 0;
      this.#state = "frame";
    }
    return 3;
  }
}

/** Bytes of a bitmap of `count` bits: whole 32-bit words, so that it can be changed atomically. */
export function bitmapBytes(count: number): number {
  return Math.ceil(count / 32) * 4;
}

/** Whether a bit is set. */
export function hasBit(words: Int32Array<SharedArrayBuffer>, bit: number): boolean {
  return (Atomics.load(words, bit >>> 5) & (1 << (bit & 31))) !== 0;
}

/** Sets a bit. */
export function setBit(words: Int32Array<SharedArrayBuffer>, bit: number): void {
  Atomics.or(words, bit >>> 5, 1 << (bit & 31));
}

/** Takes a bit back. */
export function clearBit(words: Int32Array<SharedArrayBuffer>, bit: number): void {
  Atomics.and(words, bit >>> 5, ~(1 << (bit & 31)));
}

const made = new Map<string, Buffer>();

/** Bytes that look random, compress a little, and are the same for the same seed. Not to be changed. */
export function randomBytes(seed: number, length: number): Buffer {
  const key = `${seed} ${length}`;
  let bytes = made.get(key);
  if (bytes === undefined) {
    bytes = makeBytes(seed, length);
    made.set(key, bytes);
  }
  return bytes;
}

function makeBytes(seed: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  let state = seed + 1;
  for (let at = 0; at < length; at++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    bytes[at] = (state >>> 16) & 0x3f;
  }
  return bytes;
}

/** Numbers that depend on the seed alone. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** An integer from 0 to below `limit`. */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % limit;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)] as T;
  }
}

const encoder = new TextEncoder();
const WORDS = (
  '"version" "entries" "name" "type" "size" "offset" "innerOffset" "chunkOffset" "chunkSize" "chunkDigest" "chunkType" "zeros" "digest" "linkName" "xattrs" ' +
  '"modtime" "mode" "uid" "reg" "dir" "chunk" "hardlink" "symlink" "char" null true -1 1e999 9007199254740993 9223372036854775807 {} [] "../" "a/b" "." "" : , ustar ' +
  "stargz.index.json STARGZ SG GNU.sparse.map SCHILY.xattr. path= size= 0000000 7777777 GnUlInUx GNUlInUx"
)
  .split(" ")
  .map((word) => encoder.encode(word));
const INTERESTING = [
  0, 1, 2, 7, 8, 16, 31, 32, 64, 127, 128, 255, 256, 512, 1023, 1024, 4096, 32_767, 65_535, 65_536, 0x7fff_ffff, 0xffff_ffff,
];

/** Changes bytes in one to six of the ways that have found defects before. */
export function mutate(input: Uint8Array, corpus: readonly Uint8Array[], random: Random): Uint8Array {
  let bytes: Uint8Array = input.slice();
  for (let steps = 1 + random.below(6); steps > 0; steps -= 1) bytes = step(bytes, corpus, random);
  return bytes.length > 1 << 16 ? bytes.subarray(0, 1 << 16) : bytes;
}

function step(bytes: Uint8Array, corpus: readonly Uint8Array[], random: Random): Uint8Array {
  const at = random.below(bytes.length + 1);
  switch (random.below(10)) {
    case 0:
      return replace(bytes, at, 1, Uint8Array.of(random.below(256)));
    case 1:
      return replace(bytes, at, 1, Uint8Array.of((bytes[at] ?? 0) ^ (1 << random.below(8))));
    case 2:
      return replace(bytes, at, random.below(64), new Uint8Array(0));
    case 3:
      return replace(bytes, at, 0, new Uint8Array(random.below(64)).fill(random.below(256)));
    case 4:
      return replace(bytes, at, random.below(2) * 8, random.pick(WORDS));
    case 5: {
      const number = new Uint8Array(8);
      new DataView(number.buffer).setUint32(0, random.pick(INTERESTING), random.below(2) === 0);
      return replace(bytes, at, 4, number.subarray(0, random.pick([1, 2, 4, 8])));
    }
    case 6: {
      // A piece of itself, somewhere else.
      const from = random.below(bytes.length + 1);
      return replace(bytes, at, 0, bytes.slice(from, from + random.below(600)));
    }
    case 7: {
      const other = random.pick(corpus);
      const from = random.below(other.length + 1);
      return replace(bytes, at, random.below(2) * (bytes.length - at), other.slice(from, from + random.below(2000)));
    }
    case 8:
      return replace(bytes, at, 10, encoder.encode(String(random.pick(INTERESTING) - random.below(3))));
    default:
      return bytes.subarray(0, at);
  }
}

function replace(bytes: Uint8Array, at: number, length: number, by: Uint8Array): Uint8Array {
  const rest = bytes.subarray(Math.min(bytes.length, at + length));
  const result = new Uint8Array(at + by.length + rest.length);
  result.set(bytes.subarray(0, at));
  result.set(by, at);
  result.set(rest, at + by.length);
  return result;
}

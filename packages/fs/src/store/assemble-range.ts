import type { ChunkFiles } from "./chunk-files.ts";

/**
 * Puts a file's range together from bytes at hand and from local data, which is verified again: it is only read here
 * because a driver could not.
 *
 * @returns The bytes, and the chunks that could not be read; without these the bytes are whole.
 */
export function assembleRange(
  files: ChunkFiles,
  range: { readonly inode: number; readonly offset: number; readonly end: number },
  given: ReadonlyMap<number, Uint8Array>,
): { readonly result: Uint8Array; readonly unreadable: readonly number[] } {
  const { index } = files;
  const { inode, offset, end } = range;
  const result = new Uint8Array(end - offset);
  const unreadable: number[] = [];
  const last = index.chunkAt(inode, end - 1);
  for (let chunk = index.chunkAt(inode, offset); chunk <= last; chunk++) {
    const bytes = given.get(chunk) ?? readVerified(files, chunk);
    if (bytes === undefined) {
      unreadable.push(chunk);
      continue;
    }
    const start = index.chunkFileOffset(chunk);
    const from = Math.max(offset, start);
    const to = Math.min(end, start + bytes.length);
    if (to > from) result.set(bytes.subarray(from - start, to - start), from - offset);
  }
  return { result, unreadable };
}

function readVerified(files: ChunkFiles, chunk: number): Uint8Array | undefined {
  try {
    const bytes = files.read(chunk);
    if (bytes !== undefined) files.verify(chunk, bytes);
    return bytes;
  } catch {
    return undefined;
  }
}

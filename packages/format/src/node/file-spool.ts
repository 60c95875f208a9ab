import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EstargzError } from "@estargz/interface";
import type { Spool } from "../runtime/runtime.ts";

/** Keeps bytes in a temporary file that has no name any more: it goes away with the process, however that ends. */
export function createFileSpool(): Spool {
  const opening = openUnnamed();
  opening.catch(() => {});
  let size = 0;
  return {
    async write(bytes) {
      const file = await opening;
      for (let at = 0; at < bytes.length; ) at += (await file.write(bytes, at, bytes.length - at, size + at)).bytesWritten;
      size += bytes.length;
    },
    async read(offset, length) {
      const file = await opening;
      const bytes = new Uint8Array(length);
      for (let at = 0; at < length; ) {
        const { bytesRead } = await file.read(bytes, at, length - at, offset + at);
        if (bytesRead === 0) throw new EstargzError("IO_ERROR", `the temporary file ends before byte ${offset + length}`);
        at += bytesRead;
      }
      return bytes;
    },
    close: async () => (await opening).close(),
  };
}

async function openUnnamed(): Promise<Awaited<ReturnType<typeof open>>> {
  const folder = await mkdtemp(join(tmpdir(), "estargz-spool-"));
  try {
    return await open(join(folder, "tar"), "w+", 0o600);
  } catch (error) {
    throw new EstargzError("IO_ERROR", `can't make a temporary file in ${tmpdir()}: ${(error as Error).message}`, { cause: error });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

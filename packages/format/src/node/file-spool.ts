import { type FileHandle, mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EstargzError } from "@estargz/interface";
import type { Spool } from "../runtime/runtime.ts";
import { guardFile } from "./file-error.ts";

const NAME = `a temporary file in ${tmpdir()}`;

/** Keeps bytes in a temporary file that has no name any more: it goes away with the process, however that ends. */
export function createFileSpool(): Spool {
  const opening = openUnnamed();
  opening.catch(() => {});
  let size = 0;
  return {
    async write(bytes) {
      const file = await opening;
      for (let at = 0; at < bytes.length; ) at += (await guardFile(NAME, file.write(bytes, at, bytes.length - at, size + at))).bytesWritten;
      size += bytes.length;
    },
    async read(offset, length) {
      const file = await opening;
      const bytes = new Uint8Array(length);
      for (let at = 0; at < length; ) {
        const { bytesRead } = await guardFile(NAME, file.read(bytes, at, length - at, offset + at));
        if (bytesRead === 0) throw new EstargzError("IO_ERROR", `the temporary file ends before byte ${offset + length}`);
        at += bytesRead;
      }
      return bytes;
    },
    close: async () => (await opening).close(),
  };
}

async function openUnnamed(): Promise<FileHandle> {
  const folder = await guardFile(NAME, mkdtemp(join(tmpdir(), "estargz-spool-")));
  try {
    return await guardFile(NAME, open(join(folder, "tar"), "w+", 0o600));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

import { createReadStream, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { convertTar } from "@estargz/format";
import { posixReadSuite } from "@estargz/testing/suites";
import { createLayerFileSystem, type LocalLayerFileSystem } from "../src/index.ts";
import { TestSource } from "./test-source.ts";

/** Shows tars as layers: converted, served from memory, mounted. */
function tarMounts(driver: "dev-fuse" | "fuse-native"): { mount(tarPath: string): Promise<string>; unmount(): Promise<void> } {
  const source = new TestSource();
  let files: LocalLayerFileSystem | undefined;
  let folder: string | undefined;
  let owners = 0;
  return {
    async mount(tarPath) {
      folder ??= mkdtempSync(join(tmpdir(), "ezp-"));
      files ??= await createLayerFileSystem({ root: folder, source, driver, devFuse: { keeper: false, workers: 2 } });
      const output = convertTar(createReadStream(tarPath));
      const parts: Uint8Array[] = [];
      for await (const part of output.bytes) parts.push(part);
      const { digest, tocDigest } = await output.result;
      owners += 1;
      const attached = await files.attach({ owner: `owner-${owners}`, locations: [source.add(digest, Buffer.concat(parts))], tocDigest });
      return attached.path;
    },
    async unmount() {
      await files?.close({ unmount: true });
      if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
      files = undefined;
      folder = undefined;
    },
  };
}

posixReadSuite("dev-fuse, with extended attributes", { ...tarMounts("dev-fuse"), xattrs: true });
posixReadSuite("dev-fuse, without extended attributes", { ...tarMounts("dev-fuse"), xattrs: false, lacks: ["huge directory"] });
posixReadSuite("fuse-native", {
  ...tarMounts("fuse-native"),
  xattrs: true,
  lacks: [
    "hard link identity",
    "dots and inode numbers in listings",
    "ERANGE for small attribute buffers",
    "ENAMETOOLONG",
    "huge directory",
  ],
});

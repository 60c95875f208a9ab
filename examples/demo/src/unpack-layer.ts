import { createReadStream } from "node:fs";
import { mkdir, readdir, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { extract, type Header } from "tar-stream";
import { runProgram } from "./run-program.ts";

const OPAQUE = ".wh..wh..opq";
const PREFIX = ".wh.";

/** Applies what the whiteouts of a layer take away, before its files are unpacked. */
async function applyWhiteouts(names: readonly string[], root: string): Promise<void> {
  for (const name of names) {
    const folder = join(root, dirname(name));
    const base = name.slice(name.lastIndexOf("/") + 1);
    const gone = base === OPAQUE ? await readdir(folder).catch(() => []) : [base.slice(PREFIX.length)];
    for (const child of gone) await rm(join(folder, child), { recursive: true, force: true });
  }
}

async function whiteoutsOf(blob: string, signal: AbortSignal): Promise<string[]> {
  const names: string[] = [];
  const tar = extract();
  tar.on("entry", (header: Header, stream, next) => {
    if (header.name.slice(header.name.lastIndexOf("/") + 1).startsWith(PREFIX)) names.push(header.name);
    stream.on("end", () => next());
    stream.resume();
  });
  await pipeline(createReadStream(blob), createGunzip(), tar as unknown as NodeJS.WritableStream, { signal });
  return names;
}

/** Unpacks a layer (tar+gzip) over what is in `root`, as a runtime without containerd does it for a full pull. */
export async function unpackLayer(blob: string, root: string, signal: AbortSignal): Promise<void> {
  await mkdir(root, { recursive: true });
  await applyWhiteouts(await whiteoutsOf(blob, signal), root);
  const args = [
    "--extract",
    "--gzip",
    "--file",
    blob,
    "--directory",
    root,
    "--same-owner",
    "--same-permissions",
    "--delay-directory-restore",
  ];
  await runProgram("tar", [...args, "--xattrs", "--xattrs-include=*", "--exclude", `${PREFIX}*`, "--warning=no-timestamp"]);
}

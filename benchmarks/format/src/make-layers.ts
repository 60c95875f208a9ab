import { spawnSync } from "node:child_process";
import { directory, file, type LayerInput, type LayerOutput, type WrittenLayer } from "@estargz/format";

/** Collects what is written. */
export async function collect(output: LayerOutput): Promise<{ blob: Uint8Array; written: WrittenLayer }> {
  const parts: Uint8Array[] = [];
  for await (const bytes of output.bytes) parts.push(bytes);
  return { blob: new Uint8Array(Buffer.concat(parts)), written: await output.result };
}

/** Entries of a layer as a distribution's looks: directories of 20 files each, owners, times, some extended attributes. */
export function* manyEntries(count: number): Iterable<LayerInput> {
  const mtime = 1_700_000_000n * 1_000_000_000n;
  for (let i = 0; i < count; i += 1) {
    const folder = `usr/lib/node_modules/package-${Math.floor(i / 400)}/dist/module-${Math.floor(i / 20)}`;
    if (i % 20 === 0) yield directory(folder, { mtime });
    else
      yield file(`${folder}/file-${i}.js`, `module.exports = ${i};\n`, {
        mtime,
        mode: 0o644,
        ...(i % 50 === 1 ? { xattrs: { "user.n": String(i) } } : {}),
      });
  }
}

/** A tar of what is on this machine. */
export function tarOf(path: string, ...paths: readonly string[]): void {
  const result = spawnSync(
    "tar",
    ["-cf", path, "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "-C", "/", ...paths],
    { encoding: "utf8" },
  );
  if (result.status !== 0) throw new Error(`tar failed:\n${result.stderr}`);
}

import { createReadStream } from "node:fs";
import { mkdir, open, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { convertTar, openLayer } from "@estargz/format";
import { openFile } from "@estargz/format/node";
import type { Descriptor, Digest, Layer, LayerLocation } from "@estargz/interface";
import { createRegistryClient, openImageStore } from "@estargz/registry";
import { shell } from "./commands.ts";

/** A layer that was built and pushed. */
export interface BuiltLayer {
  readonly name: string;
  /** The blob on disk. */
  readonly file: string;
  readonly descriptor: Descriptor;
  readonly tocDigest: Digest;
  readonly uncompressedBytes: number;
  /** Opened from disk. */
  readonly layer: Layer;
  location(address: string): LayerLocation;
}

/** Makes a tar of real files of this machine, up to `maxBytes`, `maxFiles` and files of `maxFileBytes`. */
export async function tarOfFiles(
  target: string,
  sources: readonly string[],
  limits: { readonly maxBytes: number; readonly maxFiles?: number; readonly maxFileBytes?: number },
): Promise<void> {
  const { maxBytes, maxFiles = Number.POSITIVE_INFINITY, maxFileBytes = Number.POSITIVE_INFINITY } = limits;
  const list: string[] = [];
  let bytes = 0;
  const walk = async (directory: string): Promise<void> => {
    const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
    entries.sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const entry of entries) {
      if (bytes >= maxBytes || list.length >= maxFiles) return;
      const path = join(directory, entry.name);
      if (entry.isDirectory()) await walk(path);
      else if (entry.isFile()) {
        const { size } = await stat(path);
        if (bytes + size > maxBytes || size > maxFileBytes) continue;
        bytes += size;
        list.push(path);
      }
    }
  };
  for (const source of sources) await walk(source);
  await writeFile(`${target}.list`, list.map((path) => `${path.slice(1)}\0`).join(""));
  await shell(
    `tar --owner=0 --group=0 --hard-dereference --no-recursion --null --verbatim-files-from -C / -T ${target}.list -cf ${target}`,
  );
  await rm(`${target}.list`);
}

/** Makes a tar of one file of text-like bytes. */
export async function tarOfOneFile(target: string, bytes: number): Promise<void> {
  const folder = `${target}.d`;
  await mkdir(folder, { recursive: true });
  const file = await open(join(folder, "file"), "w");
  const node = await readFile(process.execPath);
  for (let at = 0; at < bytes; at += node.length) await file.write(node.subarray(0, Math.min(node.length, bytes - at)));
  await file.close();
  await shell(`tar -C ${folder} -cf ${target} file`);
  await rm(folder, { recursive: true });
}

/** Converts a tar into a layer and pushes it. */
export async function buildLayer(name: string, tar: string, address: string, chunkSizeBytes: number): Promise<BuiltLayer> {
  const file = `${tar}.${chunkSizeBytes}.layer`;
  const output = convertTar(createReadStream(tar, { highWaterMark: 1 << 20 }), { chunkSizeBytes });
  const blob = await open(file, "w");
  for await (const piece of output.bytes) await blob.write(piece);
  await blob.close();
  const written = await output.result;
  const descriptor: Descriptor = {
    mediaType: "application/vnd.oci.image.layer.v1.tar+gzip",
    digest: written.digest,
    size: written.size,
    annotations: written.annotations,
  };
  const client = createRegistryClient();
  const store = openImageStore(`${address}/bench/${name}:1`, { client });
  await store.pushBlob(descriptor, await readFile(file));
  await client.close();
  const blobFile = await openFile(file);
  const layer = await openLayer(blobFile, { tocDigest: written.tocDigest });
  await blobFile.close?.();
  return {
    name,
    file,
    descriptor,
    tocDigest: written.tocDigest,
    uncompressedBytes: layer.chunks.reduce((sum, chunk) => sum + chunk.length, 0),
    layer,
    location: (place) => ({ reference: `${place}/bench/${name}:1`, descriptor }),
  };
}

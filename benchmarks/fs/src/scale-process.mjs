import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { file, fromBytes, TOC_DIGEST_ANNOTATION, writeLayer } from "@estargz/format";
import { createLayerFileSystem } from "@estargz/fs";
import { parseDigest } from "@estargz/interface";

// Plain JavaScript, and the built packages: what TypeScript itself needs at run time is no part of a daemon's memory.
const start = JSON.parse(process.argv[2] ?? "");
const blobPath = join(start.folder, `blob-${start.files}`);
const root = join(start.folder, `root-${start.files}-${start.layers}`);

function* smallFiles(count) {
  for (let i = 0; i < count; i += 1)
    yield file(`usr/lib/package-${i % 97}/folder-${i % 11}/some-module-${i}.js`, `export const value = ${i};\n`);
}

async function write() {
  mkdirSync(start.folder, { recursive: true });
  const output = writeLayer(smallFiles(start.files));
  const parts = [];
  for await (const part of output.bytes) parts.push(part);
  const { digest, tocDigest } = await output.result;
  writeFileSync(blobPath, Buffer.concat(parts));
  writeFileSync(`${blobPath}.json`, JSON.stringify({ digest, tocDigest }));
}

/** The same blob under as many digests as there are layers: each is a layer of its own to the file system. */
function locations(blob, size) {
  return Array.from({ length: start.layers }, (_, i) => ({
    reference: "benchmark.example/image:1",
    descriptor: {
      mediaType: "application/vnd.oci.image.layer.v1.tar+gzip",
      digest: i === 0 ? blob.digest : parseDigest(`sha256:${createHash("sha256").update(String(i)).digest("hex")}`),
      size,
      annotations: { [TOC_DIGEST_ANNOTATION]: blob.tocDigest },
    },
  }));
}

async function open(bytes) {
  const source = { open: () => fromBytes(bytes) };
  return createLayerFileSystem({
    root,
    source,
    devFuse: { keeper: false, workers: 1 },
    background: "off",
    restore: false,
    threadIdleMs: 500,
  });
}

async function attach() {
  const blob = JSON.parse(readFileSync(`${blobPath}.json`, "utf8"));
  const bytes = readFileSync(blobPath);
  const files = await open(bytes);
  // Threads and mounts are there in a daemon that runs.
  const begun = process.hrtime.bigint();
  let i = 0;
  for (const location of locations(blob, bytes.length))
    await files.attach({ owner: `owner-${(i += 1)}`, locations: [location], tocDigest: blob.tocDigest });
  const milliseconds = Number(process.hrtime.bigint() - begun) / 1e6;
  // As a daemon is when all of its images run: the threads that open layers have ended, and V8 has given their pages back (8 s).
  await new Promise((resolve) => setTimeout(resolve, start.restMs));
  globalThis.gc?.();
  await new Promise((resolve) => setTimeout(resolve, 500));
  const status = readFileSync("/proc/self/status", "utf8");
  const megabytes = (name) => Number(new RegExp(`${name}:\\s+(\\d+)`, "u").exec(status)?.[1]) / 1000;
  const blobMegabytes = bytes.length / 1e6;
  process.send?.({ milliseconds, rssMegabytes: megabytes("VmRSS"), anonymousMegabytes: megabytes("RssAnon"), blobMegabytes });
  await files.close({ unmount: true });
}

if (start.step === "write") await write();
else await attach();
process.disconnect?.();

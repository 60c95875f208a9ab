import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { codecSuite, layerSuite, readerAtSuite } from "@estargz/testing/suites";
import { concatBytes } from "../src/bytes.ts";
import {
  asAsyncBuffer,
  asPmtilesSource,
  asZipReader,
  convertTar,
  defaultCodecs,
  fromAsyncBuffer,
  fromBlob,
  fromBytes,
  fromPmtilesSource,
  fromUrl,
  fromZipReader,
  openLayer,
  portableGzip,
  portableZstd,
} from "../src/index.ts";
import { openFile } from "../src/node/index.ts";

codecSuite(defaultCodecs.gzip, "gzip by node:zlib");
codecSuite(defaultCodecs.zstd, "zstd by node:zlib");
codecSuite(portableGzip, "gzip by pako");
codecSuite(portableZstd, "zstd by fzstd");

readerAtSuite("fromBytes", { open: (content) => fromBytes(content) });
readerAtSuite("fromBlob", { open: (content) => fromBlob(new Blob([content as Uint8Array<ArrayBuffer>])) });
readerAtSuite("fromAsyncBuffer of asAsyncBuffer", { open: (content) => fromAsyncBuffer(asAsyncBuffer(fromBytes(content))) });
readerAtSuite("fromPmtilesSource of asPmtilesSource", {
  open: (content) => fromPmtilesSource(asPmtilesSource(fromBytes(content), "key"), content.length),
});
readerAtSuite("fromZipReader of asZipReader", { open: (content) => fromZipReader(asZipReader(fromBytes(content))) });

const cleanups: (() => void)[] = [];
function cleanUp(): void {
  for (const cleanup of cleanups.splice(0)) cleanup();
}

readerAtSuite("openFile", {
  async open(content) {
    const folder = mkdtempSync(join(tmpdir(), "estargz-format-"));
    writeFileSync(join(folder, "blob"), content);
    const reader = await openFile(join(folder, "blob"));
    cleanups.push(() => {
      void reader.close?.();
      rmSync(folder, { recursive: true });
    });
    return reader;
  },
  teardown: cleanUp,
});

readerAtSuite("fromUrl", {
  async open(content) {
    const server = createServer((request, response) => {
      const match = /^bytes=(\d*)-(\d*)$/.exec(request.headers.range ?? "");
      const from = match?.[1] === "" ? Math.max(0, content.length - Number(match[2])) : Number(match?.[1]);
      const to = match?.[1] === "" ? content.length - 1 : Math.min(content.length - 1, Number(match?.[2]));
      if (from > to) response.writeHead(416, { "content-range": `bytes */${content.length}` }).end();
      else response.writeHead(206, { "content-range": `bytes ${from}-${to}/${content.length}` }).end(content.subarray(from, to + 1));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    cleanups.push(() => {
      server.closeAllConnections();
      server.close();
    });
    return fromUrl(`http://127.0.0.1:${(server.address() as { port: number }).port}/blob`);
  },
  teardown: cleanUp,
});

layerSuite("@estargz/format", {
  async write(tar, options) {
    const output = convertTar(tar, { ...options, threads: 1 });
    const parts: Uint8Array[] = [];
    for await (const bytes of output.bytes) parts.push(bytes);
    const result = await output.result;
    return { ...result, blob: concatBytes(parts), externalToc: result.externalToc?.bytes };
  },
  open: (blob, options) => openLayer(blob, options),
  fromBytes,
  decompress: (blob, compression) =>
    new Uint8Array(
      execFileSync(compression, ["-dc", ...(compression === "gzip" ? ["-q"] : [])], {
        input: blob,
        maxBuffer: 1 << 28,
        stdio: ["pipe", "pipe", "ignore"],
      }),
    ),
});

import { createServer, type Server } from "node:http";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { type Browser, chromium } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { concatBytes } from "../src/bytes.ts";
import { directory, file, type LayerInput, writeLayer } from "../src/index.ts";

const NEEDLE = "the one file that the page wants\n".repeat(100);

function* entries(): Iterable<LayerInput> {
  let state = 1;
  const noise = (bytes: number): Uint8Array =>
    Uint8Array.from({ length: bytes }, () => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
      return state >>> 24;
    });
  yield directory("usr");
  for (let i = 0; i < 300; i += 1) yield file(`usr/file-${i}`, noise(30_000));
  yield directory("etc");
  yield file("etc/needle", NEEDLE);
  for (let i = 0; i < 100; i += 1) yield file(`etc/file-${i}`, noise(30_000));
}

/** What the page runs: the library as a bundler gives it to browsers. */
const PAGE = `
import { fromUrl, openLayer, writeLayer, file, fromBytes } from "@estargz/format";
globalThis.readOneFile = async (url, tocDigest) => {
  const layer = await openLayer(fromUrl(url), { tocDigest });
  const entry = layer.lookup("/etc/needle");
  return { entries: layer.entries.length, text: new TextDecoder().decode(await layer.readFile(entry)) };
};
globalThis.writeAndRead = async () => {
  const parts = [];
  const output = writeLayer([file("hello", "from a page")]);
  for await (const bytes of output.bytes) parts.push(bytes);
  const blob = new Uint8Array(await new Blob(parts).arrayBuffer());
  const layer = await openLayer(fromBytes(blob), await output.result);
  await layer.verify("full");
  return new TextDecoder().decode(await layer.readFile(layer.lookup("hello")));
};
`;

let blob: Uint8Array;
let tocDigest: string;
let transferred = 0;
let requests = 0;
let server: Server;
let browser: Browser;
let origin: string;

beforeAll(async () => {
  const output = writeLayer(entries());
  const parts: Uint8Array[] = [];
  for await (const bytes of output.bytes) parts.push(bytes);
  blob = concatBytes(parts);
  ({ tocDigest } = await output.result);
  const { outputFiles } = await build({
    stdin: { contents: PAGE, resolveDir: fileURLToPath(new URL("..", import.meta.url)) },
    bundle: true,
    format: "esm",
    platform: "browser",
    conditions: ["@estargz/source"],
    write: false,
  });
  const script = outputFiles[0]?.text ?? "";
  server = createServer((request, response) => {
    if (request.url === "/page.js") response.writeHead(200, { "content-type": "text/javascript" }).end(script);
    else if (request.url !== "/layer")
      response.writeHead(200, { "content-type": "text/html" }).end(`<script type="module" src="/page.js"></script>`);
    else {
      const [, first, last] = /^bytes=(\d*)-(\d*)$/.exec(request.headers.range ?? "") ?? [];
      const from = first === "" ? Math.max(0, blob.length - Number(last)) : Number(first);
      const to = first === "" ? blob.length - 1 : Math.min(blob.length - 1, Number(last));
      transferred += to - from + 1;
      requests += 1;
      response.writeHead(206, { "content-range": `bytes ${from}-${to}/${blob.length}` }).end(blob.subarray(from, to + 1));
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  origin = `http://127.0.0.1:${(server.address() as { port: number }).port}`;
  browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu"], timeout: 240_000 });
});

afterAll(async () => {
  await browser?.close();
  server?.closeAllConnections();
  server?.close();
});

describe("in Chromium", () => {
  it("reads one file of a layer over HTTP ranges with less than 2 % of the blob transferred", async () => {
    const page = await browser.newPage();
    await page.goto(origin);
    await page.waitForFunction("globalThis.readOneFile !== undefined", undefined, { timeout: 240_000 });
    const result = await page.evaluate<{ entries: number; text: string }>(`readOneFile("/layer", ${JSON.stringify(tocDigest)})`);
    expect(result).toEqual({ entries: 405, text: NEEDLE });
    expect(requests).toBeLessThanOrEqual(3);
    expect(transferred / blob.length).toBeLessThan(0.02);
  });

  it("writes a layer and verifies it", async () => {
    const page = await browser.newPage();
    await page.goto(origin);
    await page.waitForFunction("globalThis.writeAndRead !== undefined", undefined, { timeout: 240_000 });
    expect(await page.evaluate("writeAndRead()")).toBe("from a page");
  });
});

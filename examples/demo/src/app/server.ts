// The program that the demo's image runs: a small service that compiles its routes at start, with the libraries such a
// service has. It says its first line when it answers requests.
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { gzip } from "pako";
import { parse } from "smol-toml";
import { pack } from "tar-stream";
import ts from "typescript";
import { Agent } from "undici";
import { z } from "zod";

const configSchema = z.object({
  name: z.string().min(1),
  host: z.ipv4(),
  port: z.number().int().min(0).max(65_535),
  routes: z.array(z.object({ path: z.string().startsWith("/"), source: z.string() })).min(1),
});

type Handler = (name: string) => string;

async function compile(source: string): Promise<Handler> {
  const { outputText } = ts.transpileModule(source, { compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 } });
  const module: unknown = await import(`data:text/javascript;base64,${Buffer.from(outputText).toString("base64")}`);
  return z.object({ default: z.custom<Handler>((value) => typeof value === "function") }).parse(module).default;
}

const config = configSchema.parse(parse(await readFile(new URL("service.toml", import.meta.url), "utf8")));
const routes = new Map<string, Handler>();
for (const route of config.routes) routes.set(route.path, await compile(route.source));

const agent = new Agent({ connections: 4 });
const bundle = pack();
bundle.entry({ name: "routes.json" }, JSON.stringify(config.routes));
bundle.finalize();
const pieces: Uint8Array[] = [];
for await (const piece of bundle as AsyncIterable<Uint8Array>) pieces.push(piece);
const etag = createHash("sha256")
  .update(gzip(Buffer.concat(pieces)))
  .digest("hex")
  .slice(0, 12);

const server = createServer((request, response) => {
  const handler = routes.get(request.url ?? "/");
  response.writeHead(handler === undefined ? 404 : 200, { etag }).end(handler?.(config.name));
});
server.listen(config.port, config.host, () => {
  process.stdout.write(`${config.name} listens with ${routes.size} routes, typescript ${ts.version}, node ${process.version}\n`);
  // The demo measures until this line; then it is done.
  server.close();
  void agent.close();
});

// A registry that has its blobs in memory, in a process of its own: what it costs is next to nothing, so what is left is the link and the client.
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { nodeFlags } from "@estargz/testing";

const blobs = new Map<string, Buffer>();

async function store(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  blobs.set(request.url ?? "", Buffer.concat(parts));
  response.writeHead(201).end();
}

function answer(request: IncomingMessage, response: ServerResponse): void {
  const blob = blobs.get(request.url ?? "");
  if (request.url === "/v2/") response.writeHead(200, { "content-length": 2 }).end("{}");
  else if (blob === undefined) response.writeHead(404).end();
  else {
    const match = /^bytes=(\d*)-(\d*)$/.exec(request.headers.range ?? "");
    const suffix = match?.[1] === "";
    const start = suffix ? Math.max(0, blob.length - Number(match[2])) : Number(match?.[1] ?? 0);
    const end = suffix || match?.[2] === "" ? blob.length : Math.min(blob.length, Number(match?.[2]) + 1);
    const head = { "content-length": end - start, "content-range": `bytes ${start}-${end - 1}/${blob.length}` };
    response.writeHead(206, head).end(blob.subarray(start, end));
  }
}

function serve(): void {
  const server = createServer((request, response) => {
    if (request.method === "PUT") void store(request, response);
    else answer(request, response);
  });
  server.listen(0, "127.0.0.1", () => process.send?.({ port: (server.address() as AddressInfo).port }));
  process.on("disconnect", () => process.exit(0));
}

/** A running registry. */
export interface MemoryRegistry {
  readonly address: string;
  close(): Promise<void>;
}

/** Starts the registry's process. Blobs come by a plain `PUT` to their own path. */
export async function startMemoryRegistry(): Promise<MemoryRegistry> {
  const execArgv = [...nodeFlags, "--conditions=@estargz/source"];
  const child: ChildProcess = fork(import.meta.filename, ["serve"], { execArgv, stdio: ["ignore", "ignore", "inherit", "ipc"] });
  const [started] = (await once(child, "message")) as [{ readonly port: number }];
  const close = async (): Promise<void> => {
    const ended = once(child, "exit");
    child.kill("SIGKILL");
    await ended;
  };
  return { address: `127.0.0.1:${started.port}`, close };
}

if (process.argv[2] === "serve") serve();

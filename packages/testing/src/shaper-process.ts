import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { argv, exit } from "node:process";
import { ShaperLink } from "./shaper-link.ts";

interface Settings {
  readonly host: string;
  readonly port: number;
  readonly roundTripMs: number;
  readonly bitsPerSecond: number;
}

const settings = JSON.parse(argv[2] ?? "{}") as Settings;
const delayMs = settings.roundTripMs / 2;
const up = new ShaperLink({ bitsPerSecond: settings.bitsPerSecond, delayMs });
const down = new ShaperLink({ bitsPerSecond: settings.bitsPerSecond, delayMs });
const open = new Set<Socket>();
const REQUEST = /^(?:GET|HEAD|POST|PUT|PATCH|DELETE) \//;
let connections = 0;
let requests = 0;

const server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
  connections += 1;
  const target = connect({ host: settings.host, port: settings.port, allowHalfOpen: true, noDelay: true });
  for (const [socket, other] of [
    [client, target],
    [target, client],
  ] as const) {
    open.add(socket);
    socket.on("error", () => other.destroy());
    socket.on("close", (failed) => {
      open.delete(socket);
      if (failed) other.destroy();
    });
  }
  // The three-way handshake: the first byte leaves a round trip after the connection was asked for.
  const openAtMs = performance.now() + settings.roundTripMs;
  up.connect(client, target, openAtMs);
  down.connect(target, client, openAtMs);
  // A client writes the head of a request at once, and the next one when the answer is there.
  client.on("data", (bytes: Buffer) => {
    if (REQUEST.test(bytes.toString("latin1", 0, 16))) requests += 1;
  });
});

process.on("message", (message) => {
  if (message === "statistics") process.send?.({ connections, requests, bytesUp: up.bytes, bytesDown: down.bytes, open: open.size });
});
process.on("disconnect", () => exit(0));
server.listen(0, "127.0.0.1", () => process.send?.({ port: (server.address() as AddressInfo).port }));

import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { EstargzError } from "@estargz/interface";
import type { PrometheusMetrics } from "./prometheus.ts";

/** What `/healthz` says. */
interface Health {
  readonly healthy: boolean;
  /** Shown as JSON: counts, not secrets. */
  readonly details: Readonly<Record<string, string | number | boolean>>;
}

/** Options of {@link serveAdmin}. */
export interface AdminServerOptions {
  /** `HOST:PORT`; port 0 takes a free one. */
  readonly address: string;
  /** Without it there is no `/metrics`. */
  readonly metrics?: PrometheusMetrics | undefined;
  readonly health: () => Health;
  /** Called before each exposition, to set gauges. */
  readonly beforeExpose?: (() => void) | undefined;
}

/** A small HTTP server with `/metrics` and `/healthz`. */
export interface AdminServer {
  /** `HOST:PORT` that it listens on. */
  readonly address: string;
  close(): Promise<void>;
}

function parseAddress(address: string): { host: string; port: number } {
  const match = /^(?:\[([0-9a-f:.]+)\]|([^:]*)):(\d{1,5})$/i.exec(address);
  if (match === null) throw new EstargzError("INVALID_CONFIG", `metrics_address ${JSON.stringify(address)} is not of the form HOST:PORT`);
  return { host: match[1] ?? (match[2] === "" ? "0.0.0.0" : (match[2] ?? "0.0.0.0")), port: Number(match[3]) };
}

/**
 * Serves metrics and health over HTTP.
 *
 * @throws `INVALID_CONFIG` for a malformed address, `IO_ERROR` when it is in use.
 */
export async function serveAdmin(options: AdminServerOptions): Promise<AdminServer> {
  const { host, port } = parseAddress(options.address);
  const server = createServer((request, response) => {
    const path = (request.url ?? "/").split("?", 1)[0];
    const send = (status: number, type: string, body: string): void => {
      response.writeHead(status, { "content-type": type, "content-length": Buffer.byteLength(body) });
      response.end(body);
    };
    if (path === "/healthz") {
      const { healthy, details } = options.health();
      send(healthy ? 200 : 503, "application/json", `${JSON.stringify({ healthy, ...details })}\n`);
    } else if (path === "/metrics" && options.metrics !== undefined) {
      const { metrics } = options;
      options.beforeExpose?.();
      metrics.expose().then(
        (text) => send(200, metrics.contentType, text),
        (error: unknown) => send(500, "text/plain", `${String(error)}\n`),
      );
    } else send(404, "text/plain", "try /metrics or /healthz\n");
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) =>
      reject(new EstargzError("IO_ERROR", `cannot listen on metrics_address ${options.address}`, { cause: error })),
    );
    server.listen(port, host, resolve);
  });
  const bound = server.address() as AddressInfo;
  return {
    address: bound.family === "IPv6" ? `[${bound.address}]:${bound.port}` : `${bound.address}:${bound.port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

import { setTimeout as sleep } from "node:timers/promises";
import { EstargzError } from "@estargz/interface";
import { propagation, type Tracer } from "@opentelemetry/api";

/** How long the last spans may take to be sent. */
const CLOSE_MS = 3000;

/** Spans on their way to a collector. */
export interface Tracing {
  readonly tracer: Tracer;
  /** Sends what is left. Never rejects: a collector that is down keeps nobody from ending. */
  close(): Promise<void>;
}

/** Loads the exporter only when somebody traces. */
async function load() {
  const [sdk, core, exporter, resources] = await Promise.all([
    import("@opentelemetry/sdk-trace"),
    import("@opentelemetry/core"),
    import("@opentelemetry/exporter-trace-otlp-http"),
    import("@opentelemetry/resources"),
  ]);
  return { ...sdk, ...core, ...exporter, ...resources };
}

/** Starts to send spans to an OTLP collector over HTTP. */
export async function startTracing(endpoint: string): Promise<Tracing> {
  if (!URL.canParse(endpoint)) throw new EstargzError("INVALID_CONFIG", `[tracing] endpoint ${JSON.stringify(endpoint)} is not a URL`);
  const { TracerProvider, BatchSpanProcessor, OTLPTraceExporter, W3CTraceContextPropagator, resourceFromAttributes } = await load();
  const exporter = new OTLPTraceExporter({ url: `${endpoint.replace(/\/+$/, "")}/v1/traces` });
  const provider = new TracerProvider({
    resource: resourceFromAttributes({ "service.name": "estargz-snapshotter" }),
    spanProcessors: [new BatchSpanProcessor({ exporter })],
  });
  // containerd says in which trace it calls.
  propagation.setGlobalPropagator(new W3CTraceContextPropagator());
  const close = async (): Promise<void> => {
    await Promise.race([provider.shutdown().catch(() => undefined), sleep(CLOSE_MS, undefined, { ref: false })]);
  };
  return { tracer: provider.getTracer("@estargz/snapshotter"), close };
}

import { connect } from "node:net";
import type { Interceptor, Transport } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";

/** Options of {@link unixTransport}. */
export interface UnixTransportOptions {
  /** containerd's namespace. */
  readonly namespace?: string | undefined;
}

/** A gRPC transport to a unix socket. Connects at the first call. */
export function unixTransport(address: string, options: UnixTransportOptions = {}): { readonly transport: Transport; close(): void } {
  const sessionManager = new Http2SessionManager("http://localhost", {}, { createConnection: () => connect(address) });
  const inNamespace: Interceptor = (next) => (request) => {
    if (options.namespace !== undefined) request.header.set("containerd-namespace", options.namespace);
    return next(request);
  };
  const transport = createGrpcTransport({ baseUrl: "http://localhost", sessionManager, interceptors: [inNamespace] });
  return { transport, close: () => sessionManager.abort() };
}

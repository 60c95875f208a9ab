import { type Client, createClient } from "@connectrpc/connect";
import { ImageService, RuntimeService } from "../src/gen/runtime/v1/api_pb.ts";
import { unixTransport } from "../src/unix-transport.ts";

/** CRI's two services on a socket. */
export interface CriClient {
  readonly images: Client<typeof ImageService>;
  readonly runtime: Client<typeof RuntimeService>;
  close(): void;
}

/** Connects to a CRI socket. */
export function connectCri(address: string): CriClient {
  const connection = unixTransport(address);
  return {
    images: createClient(ImageService, connection.transport),
    runtime: createClient(RuntimeService, connection.transport),
    close: () => connection.close(),
  };
}

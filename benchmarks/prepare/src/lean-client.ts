import { type ClientHttp2Session, connect, type IncomingHttpHeaders } from "node:http2";
import { connect as connectSocket } from "node:net";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";

const PATH = "/containerd.services.snapshots.v1.Snapshots/Prepare";
const ALREADY_EXISTS = "6";

/** One `Prepare`, as containerd asks for it. */
export interface PrepareCall {
  readonly key: string;
  readonly parent: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** The call's bytes on the wire: made beforehand, as a client's own time is not what is measured. */
export function encodePrepare({ key, parent, labels }: PrepareCall): Buffer {
  const message = new BinaryWriter();
  message.tag(1, WireType.LengthDelimited).string("estargz");
  message.tag(2, WireType.LengthDelimited).string(key);
  message.tag(3, WireType.LengthDelimited).string(parent);
  for (const [name, value] of Object.entries(labels)) {
    message.tag(4, WireType.LengthDelimited).fork();
    message.tag(1, WireType.LengthDelimited).string(name);
    message.tag(2, WireType.LengthDelimited).string(value).join();
  }
  const bytes = message.finish();
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([prefix, bytes]);
}

/** A gRPC client that does nothing but send prepared bytes and look at the status: about what containerd's own costs. */
export class LeanClient implements Disposable {
  readonly #session: ClientHttp2Session;

  constructor(address: string) {
    this.#session = connect("http://localhost", { createConnection: () => connectSocket(address) });
  }

  /** @throws unless the answer is `ALREADY_EXISTS`. */
  async prepare(call: Buffer): Promise<void> {
    const status = await this.#status(call);
    if (status !== ALREADY_EXISTS) throw new Error(`Prepare was answered with status ${status}: the layer is not shown lazily`);
  }

  #status(call: Buffer): Promise<string> {
    return new Promise((resolve, reject) => {
      const headers = { ":method": "POST", ":path": PATH, "content-type": "application/grpc+proto", te: "trailers" };
      const stream = this.#session.request(headers);
      const look = (fields: IncomingHttpHeaders): void => {
        const status = fields["grpc-status"];
        if (typeof status === "string") resolve(status);
      };
      stream.once("response", look);
      stream.once("trailers", look);
      stream.once("error", reject);
      stream.resume();
      stream.end(call);
    });
  }

  /** Opens the connection. */
  async connected(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#session.once("connect", () => resolve());
      this.#session.once("error", reject);
    });
  }

  [Symbol.dispose](): void {
    this.#session.destroy();
  }
}

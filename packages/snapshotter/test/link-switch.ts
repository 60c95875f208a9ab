import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

/** A link that can be cut: connections end, and new ones are refused or get no answer. */
export class LinkSwitch {
  readonly #target: { readonly host: string; readonly port: number };
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;
  #mode: "up" | "refusing" | "silent" = "up";
  address = "";

  constructor(target: string) {
    const [host = "", port = ""] = target.split(":");
    this.#target = { host, port: Number(port) };
  }

  async start(): Promise<void> {
    this.#server = createServer((socket) => this.#accept(socket));
    await new Promise<void>((resolve) => this.#server?.listen(0, "127.0.0.1", resolve));
    this.address = `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  #accept(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on("error", () => {});
    socket.once("close", () => this.#sockets.delete(socket));
    if (this.#mode === "refusing") socket.destroy();
    if (this.#mode !== "up") return;
    const onward = connect(this.#target);
    this.#sockets.add(onward);
    onward.on("error", () => socket.destroy());
    onward.once("close", () => {
      this.#sockets.delete(onward);
      socket.destroy();
    });
    socket.once("close", () => onward.destroy());
    socket.pipe(onward).pipe(socket);
  }

  /** Cuts the link: every connection ends. */
  cut(how: "refusing" | "silent"): void {
    this.#mode = how;
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Mends the link; connections that got no answer end. */
  mend(): void {
    this.#mode = "up";
    for (const socket of this.#sockets) socket.destroy();
  }

  async close(): Promise<void> {
    this.cut("refusing");
    await new Promise<void>((resolve) => {
      if (this.#server === undefined) resolve();
      else this.#server.close(() => resolve());
    });
  }
}

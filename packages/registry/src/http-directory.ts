import { type Descriptor, type Digest, EstargzError, type ReaderAt } from "@estargz/interface";
import { BlobFetcher, BlobNetwork } from "./blob-fetcher.ts";
import { ALL_CAPABILITIES, type RegistryHost } from "./hosts/host.ts";
import { collect } from "./http/exchange.ts";
import { DIRECT } from "./http/transport.ts";
import type { LayoutFiles } from "./oci-directory.ts";
import type { Reference } from "./reference.ts";
import type { RegistryApi } from "./registry-api.ts";
import { type BlobReadSettings, RemoteBlob } from "./remote-blob.ts";

/** Parses the URL of a folder on a web server. @throws `INVALID_REFERENCE` */
export function parseDirectoryUrl(text: string): URL {
  if (!URL.canParse(text)) throw new EstargzError("INVALID_REFERENCE", `${JSON.stringify(text.slice(0, 120))} is not a URL`);
  const url = new URL(text);
  if (url.protocol !== "https:" && url.protocol !== "http:")
    throw new EstargzError("INVALID_REFERENCE", "a web folder is named by http: or https:");
  if (url.username !== "" || url.password !== "" || url.search !== "") {
    throw new EstargzError("INVALID_REFERENCE", `the URL of ${url.host} holds credentials or a query: hand credentials in by a keychain`);
  }
  url.hash = "";
  url.pathname = url.pathname.replace(/\/+$/, "");
  return url;
}

/** An OCI layout on a web server or CDN: plain files, read by ranges. */
export class HttpFiles implements LayoutFiles {
  readonly #url: URL;
  readonly #host: RegistryHost;
  readonly #reference: Reference;
  readonly #network: BlobNetwork;
  readonly #settings: BlobReadSettings;

  constructor(url: URL, connect: (host: RegistryHost) => RegistryApi, maxSkipBytes: number, settings: BlobReadSettings) {
    this.#url = url;
    this.#host = { url, capabilities: ALL_CAPABILITIES, headers: {}, connection: DIRECT };
    this.#reference = { host: url.host, repository: url.pathname.replace(/^\/+/, ""), tag: undefined, digest: undefined };
    this.#network = new BlobNetwork(connect(this.#host), maxSkipBytes);
    this.#settings = settings;
  }

  async read(path: string, maxBytes: number): Promise<Uint8Array> {
    const { api } = this.#network;
    const what = `${path} of ${this.#url.host}${this.#url.pathname}`;
    return api.acrossHosts(this.#reference, "pull", { signal: undefined, what }, async (host) => {
      const tooLarge = (): Error => new EstargzError("LIMIT_EXCEEDED", `${what} is larger than ${maxBytes} bytes`);
      const outcome = await api.request(
        host,
        { method: "GET", reference: this.#reference, path: `/${path}`, actions: "pull", signal: undefined, what },
        ({ status }) => (status === 200 ? collect(maxBytes, tooLarge) : undefined),
      );
      if (!outcome.accepted) throw api.error(outcome, what);
      return new Uint8Array(outcome.value);
    });
  }

  reader(path: string, size: number | undefined): ReaderAt {
    const [, algorithm = "", hex = ""] = path.split("/");
    const descriptor: Descriptor = { mediaType: "application/octet-stream", digest: `${algorithm}:${hex}` as Digest, size: size ?? -1 };
    return new RemoteBlob(new BlobFetcher(this.#network, this.#reference, descriptor, `/${path}`), this.#settings);
  }

  async has(path: string): Promise<boolean> {
    const what = `a look for ${path}`;
    const { api } = this.#network;
    const outcome = await api.request(
      this.#host,
      { method: "HEAD", reference: this.#reference, path: `/${path}`, actions: "pull", signal: undefined, what },
      () => undefined,
    );
    if (outcome.head.status === 200) return true;
    if (outcome.head.status === 404) return false;
    throw api.error(outcome, what);
  }

  #readOnly(): never {
    throw new EstargzError("UNSUPPORTED", `${this.#url.host} serves files and takes none: write an OCI layout and copy it there`);
  }

  async replace(): Promise<void> {
    this.#readOnly();
  }

  async store(): Promise<void> {
    this.#readOnly();
  }

  async alone<T>(): Promise<T> {
    return this.#readOnly();
  }

  async close(): Promise<void> {}
}

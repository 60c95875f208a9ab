import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createSecureServer } from "node:http2";
import type { AddressInfo, Server, Socket } from "node:net";
import { gzipSync } from "node:zlib";
import { type Clock, EstargzError, systemClock } from "@estargz/interface";
import { FakeApi, readRequest, refuse } from "./fake-registry-api.ts";
import { actionsOf, type FakeAccounts, FakeAuth } from "./fake-registry-auth.ts";
import { testCertificate } from "./fake-registry-certificate.ts";
import { FakeContent } from "./fake-registry-content.ts";
import { type FakeServer, type Fault, FaultPlan, writeBody } from "./fake-registry-faults.ts";
import { type RegistryProfile, type RegistryProfileName, registryProfiles } from "./fake-registry-profiles.ts";
import { answerRange, type RangeAnswer } from "./fake-registry-ranges.ts";

/** Options of {@link startFakeRegistry}. */
export interface FakeRegistryOptions extends FakeAccounts {
  /** Whose behaviour to show. Default `distribution`. */
  readonly profile?: RegistryProfileName | RegistryProfile | undefined;
  /** https with {@link testCertificate}, HTTP/2 offered. Default false. */
  readonly tls?: boolean | undefined;
  /** Ends tokens and signed URLs. Default: the machine's. */
  readonly clock?: Clock | undefined;
  /** Where the challenge says tokens are to be had. Default: this registry's own token service. */
  readonly realm?: string | undefined;
}

/** One request that a fake registry got. */
export interface FakeRequest {
  readonly server: FakeServer;
  readonly method: string;
  /** Path with query. */
  readonly path: string;
  readonly headers: IncomingMessage["headers"];
  readonly httpVersion: string;
  /** Status of the answer; 0 until there is one. */
  status: number;
  /** Bytes of the body that were sent. */
  bytesSent: number;
}

/** A registry in this process: real servers on 127.0.0.1, with the quirks of a profile, faults on demand, and a log. */
export interface FakeRegistry {
  /** `127.0.0.1:PORT` of the API. */
  readonly address: string;
  /** The API's origin. */
  readonly origin: string;
  /** `127.0.0.1:PORT` of the token service; the API's unless the profile has a separate one. */
  readonly tokenAddress: string;
  /** `127.0.0.1:PORT` of the store that blobs are redirected to. */
  readonly storeAddress: string;
  readonly profile: RegistryProfile;
  readonly content: FakeContent;
  /** Every request since the start or the last `clear`, in order of arrival. */
  readonly requests: readonly FakeRequest[];
  /** Connections that are open now, by part. */
  readonly openSockets: number;
  /** Plans a fault. */
  inject(fault: Fault): void;
  /** Ends every token, or every signed URL, that was given out. */
  expire(what: "tokens" | "redirects"): void;
  /** Forgets requests and faults. */
  clear(): void;
  /** Ends all servers and connections. Idempotent. */
  close(): Promise<void>;
}

const PATH = /^\/v2\/(.+)\/((?:manifests|referrers|blobs|tags)\/(?:uploads\/)?[^/]*)$/;

class Registry implements FakeRegistry {
  readonly profile: RegistryProfile;
  readonly content: FakeContent = new FakeContent();
  readonly requests: FakeRequest[] = [];
  readonly #options: FakeRegistryOptions;
  readonly #clock: Clock;
  readonly #faults = new FaultPlan();
  readonly #auth: FakeAuth;
  readonly #api: FakeApi;
  readonly #servers: Server[] = [];
  readonly #sockets = new Set<Socket>();
  readonly #signed = new Map<string, { readonly digest: string; readonly expiresAtMs: number }>();
  readonly #warm = new Set<string>();
  address = "";
  tokenAddress = "";
  storeAddress = "";

  constructor(options: FakeRegistryOptions) {
    const { profile = "distribution" } = options;
    this.profile = typeof profile === "string" ? registryProfiles[profile] : profile;
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#auth = new FakeAuth(this.profile, options, this.#clock);
    this.#api = new FakeApi(this.content, this.profile);
  }

  get #scheme(): string {
    return this.#options.tls === true ? "https" : "http";
  }

  get origin(): string {
    return `${this.#scheme}://${this.address}`;
  }

  get openSockets(): number {
    return this.#sockets.size;
  }

  async start(): Promise<void> {
    this.address = await this.#listen("api");
    this.storeAddress = this.profile.redirects > 0 ? await this.#listen("store") : this.address;
    this.tokenAddress = this.profile.separateTokenService === true ? await this.#listen("token") : this.address;
  }

  async #listen(part: FakeServer): Promise<string> {
    const listener = (request: IncomingMessage, response: ServerResponse): void => {
      this.#handle(part, request, response).catch(() => response.destroy());
    };
    const server: Server =
      this.#options.tls === true
        ? createSecureServer(
            { key: testCertificate.key, cert: testCertificate.certificate, allowHTTP1: true },
            listener as unknown as Parameters<typeof createSecureServer>[1],
          )
        : createServer({ keepAliveTimeout: 60_000 }, listener);
    server.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => this.#sockets.delete(socket));
    });
    this.#servers.push(server);
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(0, "127.0.0.1", resolve);
    });
    return `127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  inject(fault: Fault): void {
    this.#faults.add(fault);
  }

  expire(what: "tokens" | "redirects"): void {
    if (what === "tokens") this.#auth.expire();
    else this.#signed.clear();
  }

  clear(): void {
    this.requests.length = 0;
    this.#faults.clear();
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await Promise.all(this.#servers.splice(0).map((server) => new Promise<void>((resolve) => server.close(() => resolve()))));
  }

  async #handle(listener: FakeServer, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url ?? "/";
    const url = new URL(path, `http://${this.address}`);
    const server: FakeServer = url.pathname === "/token" ? "token" : listener;
    const method = request.method ?? "GET";
    const record: FakeRequest = {
      server,
      method,
      path,
      headers: request.headers,
      httpVersion: request.httpVersion,
      status: 0,
      bytesSent: 0,
    };
    this.requests.push(record);
    response.on("error", () => {});
    const fault = this.#faults.take({ server, method, path, range: request.headers.range });
    if (fault?.expire !== undefined) this.expire(fault.expire);
    if (fault?.latencyMs !== undefined) await new Promise((resolve) => setTimeout(resolve, fault.latencyMs));
    if (fault?.blackHole === true) return;
    if (fault?.redirectTo !== undefined) {
      response.statusCode = 307;
      response.setHeader("Location", fault.redirectTo);
      response.end();
    } else if (fault?.status !== undefined) {
      const retry = fault.retryAfter === undefined ? {} : { "Retry-After": String(fault.retryAfter) };
      refuse(response, fault.status, fault.status === 429 ? "TOOMANYREQUESTS" : "UNAVAILABLE", retry);
    } else if (server === "token") await this.#token(request, response, url, fault);
    else if (server === "store") await this.#store(request, response, url, fault, record);
    else await this.#serve(request, response, url, fault, record);
    record.status = response.statusCode;
  }

  async #token(request: IncomingMessage, response: ServerResponse, url: URL, fault: Fault | undefined): Promise<void> {
    const { bytes } = await readRequest({ request, response, fault });
    const answer = this.#auth.token(request, url, bytes.toString("utf8"));
    response.statusCode = answer.status;
    response.setHeader("Content-Type", "application/json");
    response.end(JSON.stringify(answer.body));
  }

  async #serve(request: IncomingMessage, response: ServerResponse, url: URL, fault: Fault | undefined, record: FakeRequest): Promise<void> {
    response.setHeader("Docker-Distribution-Api-Version", "registry/2.0");
    const [, repository = "", rest = ""] = PATH.exec(url.pathname) ?? [];
    const action = actionsOf(record.method);
    if (!this.#auth.allows(request.headers.authorization, repository, action)) {
      request.resume();
      const realm = this.#options.realm ?? `${this.#scheme}://${this.tokenAddress}/token`;
      return refuse(response, 401, "UNAUTHORIZED", { "WWW-Authenticate": this.#auth.challenges(realm, repository, action) });
    }
    if (rest === "") return void response.end("{}");
    if (await this.#api.answer({ request, response, url, repository, rest, fault })) return;
    const digest = rest.slice("blobs/".length);
    const blob = this.content.blob(repository, digest);
    if (blob === undefined) return refuse(response, 404, "BLOB_UNKNOWN");
    const { redirects, headWithoutLocation } = this.profile;
    const direct = redirects === 0 || (request.method === "HEAD" && headWithoutLocation === true);
    if (direct) return this.#blob(request, response, digest, blob, fault, record);
    response.statusCode = 307;
    response.setHeader("Location", this.#sign(digest, redirects));
    response.end();
  }

  /** A signed URL, as S3's look. */
  #sign(digest: string, hops: number): string {
    const signature = randomUUID();
    const date = new Date(this.#clock.now()).toISOString().replaceAll(/[-:]|\.\d+/g, "");
    this.#signed.set(signature, { digest, expiresAtMs: this.#clock.now() + 1_200_000 });
    return `${this.#scheme}://${this.storeAddress}/store/${hops}/${digest}?X-Amz-Date=${date}&X-Amz-Expires=1200&X-Amz-Signature=${signature}`;
  }

  async #store(request: IncomingMessage, response: ServerResponse, url: URL, fault: Fault | undefined, record: FakeRequest): Promise<void> {
    // S3 refuses a signed URL together with an Authorization field.
    if (request.headers.authorization !== undefined) return refuse(response, 400, "INVALID_ARGUMENT");
    const [, , hops = "1", digest = ""] = url.pathname.split("/");
    const signed = this.#signed.get(url.searchParams.get("X-Amz-Signature") ?? "");
    const blob = this.content.bytes(digest);
    if (signed?.digest !== digest || signed.expiresAtMs <= this.#clock.now())
      return refuse(response, this.profile.expiredStatus ?? 403, "DENIED");
    if (this.profile.wantsReferer === true && request.headers.referer === undefined) return refuse(response, 403, "DENIED");
    if (blob === undefined) return refuse(response, 404, "BLOB_UNKNOWN");
    if (Number(hops) <= 1) return this.#blob(request, response, digest, blob, fault, record);
    response.statusCode = 302;
    response.setHeader("Location", `/store/${Number(hops) - 1}/${digest}${url.search}`);
    response.end();
  }

  #answer(request: IncomingMessage, digest: string, blob: Uint8Array, fault: Fault | undefined): RangeAnswer {
    const cold = !this.#warm.has(digest);
    if (request.method === "GET") this.#warm.add(digest);
    const range = fault?.ignoreRange === true ? undefined : request.headers.range;
    const answer = answerRange(fault?.swapBlob ?? blob, range, this.profile.store, cold);
    if (fault?.encode !== true) return answer;
    return { ...answer, headers: { ...answer.headers, "Content-Encoding": "gzip" }, body: gzipSync(answer.body) };
  }

  async #blob(
    request: IncomingMessage,
    response: ServerResponse,
    digest: string,
    blob: Uint8Array,
    fault: Fault | undefined,
    record: FakeRequest,
  ): Promise<void> {
    const { status, headers, body } = this.#answer(request, digest, blob, fault);
    response.statusCode = status;
    for (const [name, value] of Object.entries(headers))
      response.setHeader(this.profile.oddHeaderCase === true ? name.toUpperCase() : name, value);
    const told = headers["Content-Range"];
    if (fault?.contentRange !== undefined) {
      if (fault.contentRange === "") response.removeHeader("content-range");
      else response.setHeader("Content-Range", fault.contentRange);
    } else if (told !== undefined && fault?.shiftContentRange !== undefined) {
      const shift = fault.shiftContentRange;
      response.setHeader(
        "Content-Range",
        told.replace(/(\d+)-(\d+)/, (_, first, last) => `${Number(first) + shift}-${Number(last) + shift}`),
      );
    }
    response.setHeader("Content-Length", body.length);
    if (request.method === "HEAD") return void response.end();
    record.bytesSent = await writeBody(response, body, fault);
  }
}

/**
 * Starts a registry in this process. Close it when the test ends.
 *
 * @throws `INVALID_ARGUMENT` for an unknown profile.
 *
 * @example
 * ```ts
 * const registry = await startFakeRegistry({ profile: "docker-hub", users: { me: "secret" } });
 * const layer = registry.content.putBlob("library/node", bytes);
 * registry.inject({ resetAfterBytes: 1000 });
 * // … read the layer from registry.address …
 * expect(registry.requests.filter(({ server }) => server === "store")).toHaveLength(2);
 * ```
 */
export async function startFakeRegistry(options: FakeRegistryOptions = {}): Promise<FakeRegistry> {
  if (typeof options.profile === "string" && !(options.profile in registryProfiles)) {
    throw new EstargzError("INVALID_ARGUMENT", `there is no profile ${JSON.stringify(options.profile)}`);
  }
  const registry = new Registry(options);
  await registry.start();
  return registry;
}

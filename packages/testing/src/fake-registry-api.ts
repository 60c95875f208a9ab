import type { IncomingMessage, ServerResponse } from "node:http";
import { type FakeContent, sha256 } from "./fake-registry-content.ts";
import { cut, type Fault } from "./fake-registry-faults.ts";
import type { RegistryProfile } from "./fake-registry-profiles.ts";

/** One request to the API, with what has to be known to answer it. */
export interface ApiExchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly url: URL;
  readonly repository: string;
  /** Path after the repository, like `manifests/latest`. */
  readonly rest: string;
  readonly fault: Fault | undefined;
}

/** Reads a request's body; a fault may cut it off. Gives what was read, and whether it was all. */
export async function readRequest(
  exchange: Pick<ApiExchange, "request" | "response" | "fault">,
): Promise<{ readonly bytes: Buffer; readonly complete: boolean }> {
  const pieces: Buffer[] = [];
  let size = 0;
  const limit = exchange.fault?.cutUploadAfterBytes;
  try {
    for await (const piece of exchange.request as AsyncIterable<Buffer>) {
      const taken = limit === undefined ? piece : piece.subarray(0, limit - size);
      pieces.push(taken);
      size += taken.length;
      if (limit !== undefined && size >= limit) {
        cut(exchange.response, true);
        return { bytes: Buffer.concat(pieces), complete: false };
      }
    }
  } catch {
    return { bytes: Buffer.concat(pieces), complete: false };
  }
  return { bytes: Buffer.concat(pieces), complete: true };
}

/** Answers with a status and an error body of the specification. */
export function refuse(
  response: ServerResponse,
  status: number,
  code: string,
  headers: Readonly<Record<string, string | string[]>> = {},
): void {
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
  response.statusCode = status;
  response.setHeader("Content-Type", "application/json");
  response.end(JSON.stringify({ errors: [{ code, message: code.toLowerCase().replaceAll("_", " ") }] }));
}

function done(response: ServerResponse, status: number, headers: Readonly<Record<string, string>> = {}): void {
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
  response.statusCode = status;
  response.end();
}

/** Manifests, tags, referrers and uploads of a fake registry; blobs are served elsewhere. */
export class FakeApi {
  readonly #content: FakeContent;
  readonly #profile: RegistryProfile;

  constructor(content: FakeContent, profile: RegistryProfile) {
    this.#content = content;
    this.#profile = profile;
  }

  /** Answers one request, unless it is for a blob: then gives false. */
  async answer(exchange: ApiExchange): Promise<boolean> {
    const { rest } = exchange;
    if (rest.startsWith("manifests/")) await this.#manifest(exchange, rest.slice("manifests/".length));
    else if (rest === "tags/list") this.#tags(exchange);
    else if (rest.startsWith("referrers/")) this.#referrers(exchange, rest.slice("referrers/".length));
    else if (rest.startsWith("blobs/uploads/")) await this.#upload(exchange, rest.slice("blobs/uploads/".length));
    else if (rest.startsWith("blobs/") && exchange.request.method === "DELETE") this.#deleteBlob(exchange, rest.slice("blobs/".length));
    else return false;
    return true;
  }

  async #manifest(exchange: ApiExchange, name: string): Promise<void> {
    const { request, response, repository } = exchange;
    const { manifests, tags } = this.#content.repository(repository);
    const digest = name.includes(":") ? name : (tags.get(name) ?? "");
    if (request.method === "PUT") {
      const { bytes, complete } = await readRequest(exchange);
      if (!complete) return;
      const tag = name.includes(":") ? undefined : name;
      if (tag === undefined && sha256(bytes) !== name) return refuse(response, 400, "DIGEST_INVALID");
      const descriptor = this.#content.putManifest(repository, bytes, request.headers["content-type"] ?? "", tag);
      const { subject } = JSON.parse(bytes.toString("utf8")) as { subject?: { digest?: string } };
      const told = subject?.digest !== undefined && this.#profile.referrersApi ? { "OCI-Subject": subject.digest } : undefined;
      return done(response, 201, {
        "Docker-Content-Digest": descriptor.digest,
        Location: `/v2/${repository}/manifests/${descriptor.digest}`,
        ...told,
      });
    }
    const stored = manifests.get(digest);
    if (stored === undefined) return refuse(response, 404, "MANIFEST_UNKNOWN");
    if (request.method === "DELETE") {
      if (!this.#profile.deletes) return refuse(response, 405, "UNSUPPORTED");
      if (name.includes(":")) {
        manifests.delete(digest);
        for (const [tag, target] of tags) if (target === digest) tags.delete(tag);
      } else tags.delete(name);
      return done(response, 202);
    }
    response.setHeader("Content-Type", stored.mediaType);
    if (this.#profile.omitsDigestHeader !== true) response.setHeader("Docker-Content-Digest", digest);
    response.setHeader("Content-Length", stored.bytes.length);
    response.end(request.method === "HEAD" ? undefined : stored.bytes);
  }

  #tags({ response, url, repository }: ApiExchange): void {
    const all = [...this.#content.repository(repository).tags.keys()].toSorted();
    const after = url.searchParams.get("last");
    const rest = after === null ? all : all.filter((tag) => tag > after);
    const count = Number(url.searchParams.get("n") ?? this.#profile.tagsPerPage ?? rest.length);
    const page = rest.slice(0, count);
    if (page.length < rest.length)
      response.setHeader("Link", `</v2/${repository}/tags/list?n=${count}&last=${page.at(-1) ?? ""}>; rel="next"`);
    response.setHeader("Content-Type", "application/json");
    response.end(JSON.stringify({ name: repository, tags: page }));
  }

  #referrers({ response, url, repository }: ApiExchange, digest: string): void {
    if (!this.#profile.referrersApi) return refuse(response, 404, "NOT_FOUND");
    const found: unknown[] = [];
    for (const [own, { bytes, mediaType }] of this.#content.repository(repository).manifests) {
      const document = JSON.parse(Buffer.from(bytes).toString("utf8")) as {
        subject?: { digest?: string };
        artifactType?: string;
        config?: { mediaType?: string };
        annotations?: Record<string, string>;
      };
      if (document.subject?.digest !== digest) continue;
      const artifactType = document.artifactType ?? document.config?.mediaType;
      found.push({ mediaType, digest: own, size: bytes.length, artifactType, annotations: document.annotations });
    }
    const wanted = url.searchParams.get("artifactType");
    const filtered = wanted === null ? found : found.filter((item) => (item as { artifactType?: string }).artifactType === wanted);
    if (wanted !== null) response.setHeader("OCI-Filters-Applied", "artifactType");
    response.setHeader("Content-Type", "application/vnd.oci.image.index.v1+json");
    response.end(JSON.stringify({ schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests: filtered }));
  }

  #deleteBlob({ response, repository }: ApiExchange, digest: string): void {
    if (!this.#profile.deletes) return refuse(response, 405, "UNSUPPORTED");
    if (!this.#content.repository(repository).blobs.delete(digest)) return refuse(response, 404, "BLOB_UNKNOWN");
    done(response, 202);
  }

  #uploadHeaders(repository: string, id: string, size: number): Record<string, string> {
    const { minChunkBytes } = this.#profile;
    return {
      Location: `/v2/${repository}/blobs/uploads/${id}?state=${size}`,
      Range: `0-${Math.max(0, size - 1)}`,
      ...(minChunkBytes === undefined ? {} : { "OCI-Chunk-Min-Length": String(minChunkBytes) }),
    };
  }

  async #upload(exchange: ApiExchange, id: string): Promise<void> {
    const { request, response, url, repository } = exchange;
    if (request.method === "POST") {
      await readRequest(exchange);
      const mount = url.searchParams.get("mount");
      const from = url.searchParams.get("from") ?? "";
      const bytes = mount === null || this.#profile.refusesMounts === true ? undefined : this.#content.blob(from, mount);
      if (bytes !== undefined) {
        const { digest } = this.#content.putBlob(repository, bytes);
        return done(response, 201, { Location: `/v2/${repository}/blobs/${digest}`, "Docker-Content-Digest": digest });
      }
      return done(response, 202, this.#uploadHeaders(repository, this.#content.openUpload(repository), 0));
    }
    const upload = this.#content.uploads.get(id);
    if (upload === undefined || upload.repository !== repository) return refuse(response, 404, "BLOB_UPLOAD_UNKNOWN");
    if (request.method === "DELETE") {
      this.#content.uploads.delete(id);
      return done(response, 204);
    }
    if (request.method === "GET") return done(response, 204, this.#uploadHeaders(repository, id, upload.size));
    const start = /^(\d+)-\d+$/.exec(request.headers["content-range"] ?? "")?.[1];
    if (start !== undefined && Number(start) !== upload.size) {
      await readRequest(exchange);
      return refuse(response, 416, "BLOB_UPLOAD_INVALID", this.#uploadHeaders(repository, id, upload.size));
    }
    const { bytes, complete } = await readRequest(exchange);
    upload.pieces.push(bytes);
    upload.size += bytes.length;
    if (!complete) return;
    if (request.method === "PATCH") return done(response, 202, this.#uploadHeaders(repository, id, upload.size));
    const content = Buffer.concat(upload.pieces);
    this.#content.uploads.delete(id);
    const digest = sha256(content);
    if (digest !== url.searchParams.get("digest")) return refuse(response, 400, "DIGEST_INVALID");
    this.#content.putBlob(repository, content);
    done(response, 201, { Location: `/v2/${repository}/blobs/${digest}`, "Docker-Content-Digest": digest });
  }
}

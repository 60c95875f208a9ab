import { Readable } from "node:stream";
import { type Descriptor, type Digest, EstargzError, isEstargzError } from "@estargz/interface";
import { type BlobContent, digestOf, iterate } from "./blob-content.ts";
import type { RegistryHost } from "./hosts/host.ts";
import { discard, headerOf } from "./http/exchange.ts";
import { isRetryable, retryDelayMs } from "./http/retry.ts";
import type { PushBlobOptions, PushManifestOptions, PushOutcome } from "./image-store.ts";
import { formatReference, parseReference, type Reference } from "./reference.ts";
import type { ApiOutcome, ApiRequest, RegistryApi } from "./registry-api.ts";
import { RegistryError } from "./registry-error.ts";

/** An upload that the registry has opened. */
interface Upload {
  readonly location: URL;
  /** Fewest bytes of a chunk but the last (`OCI-Chunk-Min-Length`). */
  readonly minChunkBytes: number;
}

/** Pushes to one repository, at the first server that takes pushes. */
export class Pusher {
  readonly #api: RegistryApi;
  readonly #reference: Reference;

  constructor(api: RegistryApi, reference: Reference) {
    this.#api = api;
    this.#reference = reference;
  }

  get #repository(): string {
    return `/${this.#reference.repository}`;
  }

  async #host(): Promise<RegistryHost> {
    const host = (await this.#api.hosts(this.#reference, "push"))[0];
    if (host === undefined) throw new EstargzError("INVALID_CONFIG", `no server takes pushes for ${this.#reference.host}`);
    return host;
  }

  #send(host: RegistryHost, request: Omit<ApiRequest, "reference" | "actions">, ok: readonly number[]): Promise<ApiOutcome<undefined>> {
    return this.#api.request(host, { actions: "pull,push", reference: this.#reference, ...request }, ({ status }) =>
      ok.includes(status) ? discard() : undefined,
    );
  }

  #rejected(outcome: ApiOutcome<unknown>, what: string): EstargzError {
    const error = this.#api.error(outcome, what);
    const { status } = error;
    if (isRetryable(error) || status === 401 || status === 403) return error;
    return new EstargzError("PUSH_REJECTED", error.message, { cause: error, details: error.details });
  }

  /** Repeats a task while that may help. Uploads begin anew: `task` is the whole upload, or resumes by itself. */
  async #repeat<T>(signal: AbortSignal | undefined, task: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await task();
      } catch (error) {
        const delayMs = signal?.aborted === true ? undefined : retryDelayMs(attempt, error, this.#api.retry, this.#api.random);
        if (delayMs === undefined) throw error;
        await this.#api.clock.sleep(delayMs, signal);
      }
    }
  }

  async hasBlob(descriptor: Descriptor, signal: AbortSignal | undefined, actions: ApiRequest["actions"] = "pull"): Promise<boolean> {
    const what = `a look for blob ${descriptor.digest}`;
    const ask = async (host: RegistryHost): Promise<boolean> => {
      const path = `${this.#repository}/blobs/${descriptor.digest}`;
      const outcome = await this.#api.request(
        host,
        { method: "HEAD", reference: this.#reference, path, actions, signal, what },
        ({ status }) => (status === 200 ? discard() : undefined),
      );
      if (outcome.accepted) return true;
      if (outcome.head.status === 404) return false;
      throw this.#api.error(outcome, what);
    };
    if (actions === "pull") return this.#api.acrossHosts(this.#reference, "pull", { signal, what }, ask);
    const host = await this.#host();
    return this.#repeat(signal, () => ask(host));
  }

  async pushBlob(descriptor: Descriptor, content: BlobContent, options: PushBlobOptions): Promise<PushOutcome> {
    if (descriptor.size < 0) throw new EstargzError("INVALID_ARGUMENT", "a blob is pushed with its size");
    if (content instanceof Uint8Array && content.length !== descriptor.size) {
      throw new EstargzError("INVALID_ARGUMENT", `the blob has ${content.length} bytes and its descriptor says ${descriptor.size}`);
    }
    const { signal, mountFrom = [], chunkBytes = 0 } = options;
    if (await this.hasBlob(descriptor, signal, "pull,push")) return "exists";
    const host = await this.#host();
    for (const from of mountFrom) if (await this.#mount(host, descriptor, from, signal)) return "mounted";
    if (chunkBytes > 0) await this.#pushChunks(host, descriptor, content, chunkBytes, signal);
    else await this.#repeat(signal, () => this.#pushWhole(host, descriptor, content, signal));
    return "uploaded";
  }

  /** Asks for a mount from another repository (distribution-spec, "Mounting a blob"). */
  async #mount(host: RegistryHost, descriptor: Descriptor, from: string, signal: AbortSignal | undefined): Promise<boolean> {
    const { repository } = parseReference(`${this.#reference.host}/${from}`);
    if (repository === this.#reference.repository) return false;
    const outcome = await this.#send(
      host,
      {
        method: "POST",
        path: `${this.#repository}/blobs/uploads/`,
        query: { mount: descriptor.digest, from: repository },
        extraScopes: [`repository:${repository}:pull`],
        body: () => new Uint8Array(),
        signal,
        what: "a mount of a blob",
      },
      [201, 202],
    ).catch((error: unknown) => {
      // No permission for the other repository: the bytes are sent instead.
      if (isEstargzError(error, "UNAUTHORIZED", "FORBIDDEN")) return undefined;
      throw error;
    });
    if (outcome === undefined) return false;
    if (outcome.accepted && outcome.head.status === 201) return true;
    if (outcome.accepted) await this.#cancel(host, this.#upload(outcome), signal);
    return false;
  }

  async #open(host: RegistryHost, signal: AbortSignal | undefined): Promise<Upload> {
    const what = "the start of an upload";
    const path = `${this.#repository}/blobs/uploads/`;
    const outcome = await this.#send(host, { method: "POST", path, body: () => new Uint8Array(), signal, what }, [202]);
    if (!outcome.accepted) throw this.#rejected(outcome, what);
    return this.#upload(outcome);
  }

  #upload(outcome: ApiOutcome<unknown>, before?: Upload): Upload {
    const location = headerOf(outcome.head, "location");
    if (location === undefined && before === undefined) {
      throw new EstargzError("INVALID_RESPONSE", `${outcome.url.host} opened an upload without telling where`);
    }
    const min = Number(headerOf(outcome.head, "oci-chunk-min-length") ?? 0);
    return {
      location: location === undefined ? (before as Upload).location : new URL(location, outcome.url),
      minChunkBytes: Number.isSafeInteger(min) && min > 0 ? min : (before?.minChunkBytes ?? 0),
    };
  }

  async #cancel(host: RegistryHost, upload: Upload, signal: AbortSignal | undefined): Promise<void> {
    await this.#send(host, { method: "DELETE", path: upload.location, signal, what: "the end of an upload" }, [200, 202, 204]).catch(
      () => {},
    );
  }

  async #pushWhole(host: RegistryHost, descriptor: Descriptor, content: BlobContent, signal: AbortSignal | undefined): Promise<void> {
    const upload = await this.#open(host, signal);
    const what = `an upload of blob ${descriptor.digest}`;
    const request = {
      method: "PUT" as const,
      path: upload.location,
      query: { digest: descriptor.digest },
      headers: { "content-type": "application/octet-stream", "content-length": String(descriptor.size) },
      body: () => (content instanceof Uint8Array ? content : Readable.from(iterate(content), { objectMode: false })),
      signal,
      what,
    };
    const outcome = await this.#send(host, request, [200, 201, 204]);
    if (!outcome.accepted) throw this.#rejected(outcome, what);
    this.#checkDigest(outcome, descriptor.digest);
  }

  #checkDigest(outcome: ApiOutcome<unknown>, digest: Digest): void {
    const told = headerOf(outcome.head, "docker-content-digest");
    if (told !== undefined && told !== digest && told.startsWith(digest.slice(0, 6))) {
      throw new EstargzError("DIGEST_MISMATCH", `${outcome.url.host} stored ${told.slice(0, 80)} where ${digest} was pushed`);
    }
  }

  /** Pushes in pieces; one that fails is resumed from where the registry says it is. */
  async #pushChunks(
    host: RegistryHost,
    descriptor: Descriptor,
    content: BlobContent,
    chunkBytes: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    let upload = await this.#open(host, signal);
    const size = Math.max(chunkBytes, upload.minChunkBytes);
    let offset = 0;
    const what = `an upload of blob ${descriptor.digest}`;
    for await (const chunk of rechunk(iterate(content), size)) {
      const end = offset + chunk.length;
      upload = await this.#repeat(signal, () => this.#patch(host, upload, chunk, offset, what, signal));
      offset = end;
    }
    const outcome = await this.#repeat(signal, async () => {
      const query = { digest: descriptor.digest };
      const done = await this.#send(
        host,
        { method: "PUT", path: upload.location, query, headers: { "content-length": "0" }, body: () => new Uint8Array(), signal, what },
        [200, 201, 204],
      );
      if (!done.accepted) throw this.#rejected(done, what);
      return done;
    });
    this.#checkDigest(outcome, descriptor.digest);
  }

  async #patch(
    host: RegistryHost,
    upload: Upload,
    chunk: Uint8Array,
    offset: number,
    what: string,
    signal: AbortSignal | undefined,
  ): Promise<Upload> {
    let sent = 0;
    for (let round = 0; ; round++) {
      const rest = chunk.subarray(sent);
      const from = offset + sent;
      const headers = {
        "content-type": "application/octet-stream",
        "content-length": String(rest.length),
        "content-range": `${from}-${from + rest.length - 1}`,
      };
      let failure: unknown;
      try {
        const outcome = await this.#send(
          host,
          { method: "PATCH", path: upload.location, headers, body: () => rest, signal, what },
          [201, 202, 204],
        );
        if (outcome.accepted) return this.#upload(outcome, upload);
        failure = this.#rejected(outcome, what);
        if (outcome.head.status !== 416) throw failure;
      } catch (error) {
        if (signal?.aborted === true || round >= 5) throw error;
        if (!isRetryable(error) && !(error instanceof RegistryError && error.status === 416) && !isEstargzError(error, "PUSH_REJECTED"))
          throw error;
        failure = error;
      }
      const reached = await this.#reached(host, upload, signal);
      if (reached === undefined || reached < offset || reached > offset + chunk.length) throw failure;
      if (reached === offset + chunk.length) return upload;
      if (reached - offset <= sent && round >= 3) throw failure;
      sent = reached - offset;
      await this.#api.clock.sleep(retryDelayMs(round + 1, failure, this.#api.retry, this.#api.random) ?? 0, signal);
    }
  }

  /** How many bytes of an upload the registry has. */
  async #reached(host: RegistryHost, upload: Upload, signal: AbortSignal | undefined): Promise<number | undefined> {
    const what = "the state of an upload";
    const outcome = await this.#send(host, { method: "GET", path: upload.location, signal, what }, [200, 202, 204]).catch(() => undefined);
    if (outcome?.accepted !== true) return undefined;
    const match = /^(?:bytes=)?(\d{1,16})-(\d{1,16})$/.exec(headerOf(outcome.head, "range") ?? "");
    if (match === null) return 0;
    // "0-0" is said of nothing as well as of one byte (docker-registry): nothing is the safe reading.
    return Number(match[2]) === 0 ? 0 : Number(match[2]) + 1;
  }

  async pushManifest(
    bytes: Uint8Array,
    options: PushManifestOptions,
  ): Promise<{ readonly descriptor: Descriptor; readonly subject: string | undefined }> {
    const { mediaType, signal } = options;
    const digest = digestOf(bytes);
    const tag = options.untagged === true ? undefined : (options.tag ?? this.#reference.tag);
    if (tag !== undefined) parseReference(`${this.#reference.host}/${this.#reference.repository}:${tag}`);
    const what = `a push of manifest ${formatReference({ ...this.#reference, tag, digest: tag === undefined ? digest : undefined })}`;
    const host = await this.#host();
    const outcome = await this.#repeat(signal, async () => {
      const sent = await this.#send(
        host,
        {
          method: "PUT",
          path: `${this.#repository}/manifests/${tag ?? digest}`,
          headers: { "content-type": mediaType, "content-length": String(bytes.length) },
          body: () => bytes,
          signal,
          what,
        },
        [200, 201, 202, 204],
      );
      if (!sent.accepted) throw this.#rejected(sent, what);
      return sent;
    });
    this.#checkDigest(outcome, digest);
    return { descriptor: { mediaType, digest, size: bytes.length }, subject: headerOf(outcome.head, "oci-subject") };
  }

  /** Deletes a manifest (by tag or digest) or a blob. @throws `NOT_FOUND`, `UNSUPPORTED` where deletion is off. */
  async remove(kind: "manifests" | "blobs", target: string, signal: AbortSignal | undefined): Promise<void> {
    const host = await this.#host();
    const what = `the deletion of ${kind === "blobs" ? "blob" : "manifest"} ${target}`;
    await this.#repeat(signal, async () => {
      const outcome = await this.#api.request(
        host,
        {
          method: "DELETE",
          actions: "pull,push,delete",
          reference: this.#reference,
          path: `${this.#repository}/${kind}/${target}`,
          signal,
          what,
        },
        ({ status }) => (status === 200 || status === 202 || status === 204 ? discard() : undefined),
      );
      if (outcome.accepted) return;
      const error = this.#api.error(outcome, what);
      if (outcome.head.status !== 405 && !(outcome.head.status === 400 && error.registryCodes.includes("UNSUPPORTED"))) throw error;
      throw new EstargzError("UNSUPPORTED", `${host.url.host} does not allow ${what}`, { cause: error });
    });
  }
}

/** The same bytes in pieces of exactly `size`, the last one shorter. */
async function* rechunk(content: AsyncIterable<Uint8Array>, size: number): AsyncGenerator<Uint8Array, void, void> {
  let buffer = Buffer.allocUnsafeSlow(size);
  let filled = 0;
  for await (const piece of content) {
    for (let at = 0; at < piece.length; ) {
      const take = Math.min(size - filled, piece.length - at);
      buffer.set(piece.subarray(at, at + take), filled);
      filled += take;
      at += take;
      if (filled === size) {
        yield buffer;
        buffer = Buffer.allocUnsafeSlow(size);
        filled = 0;
      }
    }
  }
  if (filled > 0) yield buffer.subarray(0, filled);
}

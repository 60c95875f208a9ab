import { type Descriptor, type Digest, EstargzError, isEstargzError } from "@estargz/interface";
import { z } from "zod";
import { digestOf } from "./blob-content.ts";
import type { RegistryHost } from "./hosts/host.ts";
import { collect, headerOf } from "./http/exchange.ts";
import { MAX_MANIFEST_BYTES, parseManifest } from "./manifest.ts";
import { OCI_INDEX } from "./media-types.ts";
import type { Reference } from "./reference.ts";
import type { ApiRequest, RegistryApi } from "./registry-api.ts";

const MAX_PAGES = 1000;
const MAX_TAGS = 1_000_000;
const tagsSchema = z.object({ tags: z.array(z.string()).nullish() });

/** Path and query of a `Link: <…>; rel="next"` field (RFC 5988), on the answering server only. */
export function nextPage(link: string | undefined, url: URL): URL | undefined {
  const match = /<([^>]{1,4096})>\s*;[^,]*\brel\s*=\s*"?next"?/i.exec(link ?? "");
  if (match === null || !URL.canParse(match[1] ?? "", url)) return undefined;
  const next = new URL(match[1] ?? "", url);
  // Behind proxies servers name themselves wrongly: only where in the list to go on is believed.
  const own = new URL(url);
  own.search = next.search;
  return own.search === url.search ? undefined : own;
}

interface Page {
  readonly bytes: Uint8Array;
  readonly next: URL | undefined;
  readonly filters: string | undefined;
}

/** Tags and referrers of a repository. */
export class ContentDiscovery {
  readonly #api: RegistryApi;
  readonly #reference: Reference;

  constructor(api: RegistryApi, reference: Reference) {
    this.#api = api;
    this.#reference = reference;
  }

  async #page(host: RegistryHost, request: Omit<ApiRequest, "reference" | "actions" | "method">): Promise<Page> {
    const { what } = request;
    const tooLarge = (): Error =>
      new EstargzError("LIMIT_EXCEEDED", `${host.url.host} sent more than ${MAX_MANIFEST_BYTES} bytes for ${what}`);
    const outcome = await this.#api.request(
      host,
      { method: "GET", actions: "pull", reference: this.#reference, ...request },
      ({ status }) => (status === 200 ? collect(MAX_MANIFEST_BYTES, tooLarge) : undefined),
    );
    if (!outcome.accepted) throw this.#api.error(outcome, what);
    const filters = headerOf(outcome.head, "oci-filters-applied");
    return { bytes: outcome.value, next: nextPage(headerOf(outcome.head, "link"), outcome.url), filters };
  }

  /** All pages of a list at one host. */
  async #pages(
    host: RegistryHost,
    request: Omit<ApiRequest, "reference" | "actions" | "method">,
    take: (page: Page) => void,
  ): Promise<void> {
    let path: string | URL = request.path;
    for (let count = 0; ; count++) {
      if (count === MAX_PAGES)
        throw new EstargzError("LIMIT_EXCEEDED", `${host.url.host} has more than ${MAX_PAGES} pages of ${request.what}`);
      const page: Page = await this.#page(host, { ...request, path, query: count === 0 ? request.query : undefined });
      take(page);
      if (page.next === undefined) return;
      path = page.next;
    }
  }

  async listTags(signal: AbortSignal | undefined): Promise<string[]> {
    const what = `the list of tags of ${this.#reference.host}/${this.#reference.repository}`;
    return this.#api.acrossHosts(this.#reference, "resolve", { signal, what }, async (host) => {
      const tags: string[] = [];
      await this.#pages(host, { path: `/${this.#reference.repository}/tags/list`, signal, what }, ({ bytes }) => {
        const result = tagsSchema.safeParse(parseJson(bytes, what));
        if (!result.success) throw new EstargzError("INVALID_RESPONSE", `${host.url.host} answered ${what} with something else`);
        for (const tag of result.data.tags ?? []) tags.push(tag);
        if (tags.length > MAX_TAGS) throw new EstargzError("LIMIT_EXCEEDED", `${what} is longer than ${MAX_TAGS}`);
      });
      return tags;
    });
  }

  /** By the referrers API, or by the tag that stands for it in registries without one. */
  async referrers(digest: Digest, artifactType: string | undefined, signal: AbortSignal | undefined): Promise<Descriptor[]> {
    const what = `the referrers of ${digest}`;
    const query = artifactType === undefined ? undefined : { artifactType };
    return this.#api.acrossHosts(this.#reference, "resolve", { signal, what }, async (host) => {
      const found: Descriptor[] = [];
      try {
        await this.#pages(host, { path: `/${this.#reference.repository}/referrers/${digest}`, query, signal, what }, ({ bytes }) =>
          found.push(...indexOf(bytes)),
        );
      } catch (error) {
        if (!isEstargzError(error, "NOT_FOUND")) throw error;
        found.push(...(await this.#tagged(host, digest, signal)));
      }
      return artifactType === undefined ? found : found.filter((descriptor) => descriptor.artifactType === artifactType);
    });
  }

  async #tagged(host: RegistryHost, digest: Digest, signal: AbortSignal | undefined): Promise<readonly Descriptor[]> {
    const path = `/${this.#reference.repository}/manifests/${referrersTag(digest)}`;
    try {
      const { bytes } = await this.#page(host, { path, headers: { accept: OCI_INDEX }, signal, what: `the referrers tag of ${digest}` });
      return indexOf(bytes);
    } catch (error) {
      if (isEstargzError(error, "NOT_FOUND")) return [];
      throw error;
    }
  }
}

/** The tag of registries without the referrers API (distribution-spec, "Referrers Tag Schema"). */
export function referrersTag(digest: Digest): string {
  return digest.replace(":", "-").slice(0, 128);
}

function parseJson(bytes: Uint8Array, what: string): unknown {
  try {
    return JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("utf8"));
  } catch (cause) {
    throw new EstargzError("INVALID_RESPONSE", `the answer to ${what} is not JSON`, { cause });
  }
}

function indexOf(bytes: Uint8Array): readonly Descriptor[] {
  const parsed = parseManifest(bytes, digestOf(bytes), OCI_INDEX);
  if (parsed.kind !== "index") throw new EstargzError("INVALID_RESPONSE", "a list of referrers is not an index");
  return parsed.index.manifests;
}

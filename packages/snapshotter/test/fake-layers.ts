import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { AttachedLayer, AttachRequest, Digest, LayerFileSystem } from "@estargz/interface";
import { EstargzError, parseDigest } from "@estargz/interface";

/** A digest made of one character. */
export function digestOf(character: string): Digest {
  return parseDigest(`sha256:${character.repeat(64)}`);
}

/** What a fake attach does instead of succeeding. */
export type FakeFailure = (request: AttachRequest) => Promise<void> | void;

/** A layer file system that shows each layer as a plain directory with one file, named by its digests. */
export class FakeLayers implements LayerFileSystem {
  readonly expected: string[] = [];
  readonly attaches: AttachRequest[] = [];
  readonly #folder: string;
  readonly #attached = new Map<string, AttachedLayer>();
  failure: FakeFailure = () => {};
  collected = 0;
  #next = 1;

  constructor(folder: string) {
    this.#folder = folder;
  }

  async attach(request: AttachRequest, options: { readonly signal?: AbortSignal | undefined } = {}): Promise<AttachedLayer> {
    options.signal?.throwIfAborted();
    this.attaches.push(request);
    await this.failure(request);
    const existing = this.#attached.get(request.owner);
    if (existing !== undefined) return existing;
    const location = request.locations[0];
    if (location === undefined) throw new EstargzError("INVALID_ARGUMENT", "no location");
    const path = join(this.#folder, String(this.#next));
    this.#next += 1;
    await mkdir(path, { recursive: true });
    await writeFile(join(path, location.descriptor.digest.slice(-8)), `${location.descriptor.digest} ${request.tocDigest}\n`);
    const layer: AttachedLayer = {
      owner: request.owner,
      path,
      layerDigest: location.descriptor.digest,
      tocDigest: request.tocDigest ?? digestOf("0"),
    };
    this.#attached.set(request.owner, layer);
    return layer;
  }

  expect(requests: readonly Omit<AttachRequest, "owner">[]): void {
    this.expected.push(...requests.map((request) => request.locations[0]?.descriptor.digest ?? ""));
  }

  get(owner: string): AttachedLayer | undefined {
    return this.#attached.get(owner);
  }

  list(): readonly AttachedLayer[] {
    return [...this.#attached.values()];
  }

  async check(): Promise<void> {}

  coverage(): { totalBytes: number; localBytes: number; inodes: number } {
    return { totalBytes: 100, localBytes: 40, inodes: 2 };
  }

  async detach(owner: string): Promise<void> {
    const layer = this.#attached.get(owner);
    this.#attached.delete(owner);
    if (layer !== undefined) await rm(layer.path, { recursive: true, force: true });
  }

  async collect(): Promise<number> {
    this.collected += 1;
    return 0;
  }

  async close(): Promise<void> {}
}

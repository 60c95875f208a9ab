import type { LayerFileSystem, LayerLocation } from "@estargz/interface";

const MAX_REMEMBERED = 8192;

/** Opens all layers of an image at its first mention, so that each is ready when containerd asks for it. */
export class LayerHints {
  readonly #layers: LayerFileSystem;
  readonly #seen = new Set<string>();

  constructor(layers: LayerFileSystem) {
    this.#layers = layers;
  }

  /** Says that `own` is about to be attached and its `neighbours` soon. Each layer of a reference is expected once. */
  mention(own: LayerLocation, neighbours: readonly LayerLocation[], prefetchBytes: number): void {
    this.#isNew(own);
    const fresh = neighbours.filter((location) => this.#isNew(location));
    if (fresh.length === 0) return;
    this.#layers.expect(fresh.map((location) => ({ locations: [location], tocDigest: undefined, prefetchBytes })));
  }

  /** Forgets a layer: its image was removed, a later pull is a first mention again. */
  forget(location: LayerLocation): void {
    this.#seen.delete(`${location.reference} ${location.descriptor.digest}`);
  }

  #isNew(location: LayerLocation): boolean {
    const key = `${location.reference} ${location.descriptor.digest}`;
    if (this.#seen.has(key)) return false;
    if (this.#seen.size >= MAX_REMEMBERED) {
      const [oldest] = this.#seen;
      if (oldest !== undefined) this.#seen.delete(oldest);
    }
    this.#seen.add(key);
    return true;
  }
}

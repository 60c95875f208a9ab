import type { LayerFileSystem, LayerLocation, Logger } from "@estargz/interface";
import { EstargzError, isEstargzError } from "@estargz/interface";
import { type Attributes, type Context, trace } from "@opentelemetry/api";
import type { AccessRecord } from "./access-record.ts";
import { fallbackFromError, fallbackNote } from "./fallback.ts";
import { LABEL_SNAPSHOT_REF, type LayerLabels, parseLayerLabels, repositoryOf } from "./labels.ts";
import { LayerHints } from "./layer-hints.ts";
import type { CallOptions, CreateRequest, Labels } from "./snapshot.ts";
import type { FallbackNote, RemoteLayer, SnapshotStore, StoredSnapshot } from "./snapshot-store.ts";
import type { SnapshotterMetrics } from "./snapshotter-metrics.ts";
import { noTrace, type SnapshotterTracing } from "./tracing.ts";

/** How layers may be shown. */
export interface RemoteLayerPolicy {
  /** Bound of opening one layer, in milliseconds. Default 30,000. */
  readonly attachTimeoutMs?: number | undefined;
  /** Shows layers without a TOC digest when the client's labels ask for it. Default false. */
  readonly allowNoVerification?: boolean | undefined;
  /** Shows layers without a TOC digest always. Default false. */
  readonly disableVerification?: boolean | undefined;
  /** Bytes to prefetch of a layer without a landmark, unless labels say more. Default 0. */
  readonly prefetchBytes?: number | undefined;
}

/** What {@link RemoteLayers} works with. */
export interface RemoteLayersOptions {
  readonly layers: LayerFileSystem;
  readonly store: SnapshotStore;
  readonly access: AccessRecord | undefined;
  readonly logger: Logger;
  readonly metrics: SnapshotterMetrics;
  readonly policy: RemoteLayerPolicy;
  readonly reserveId: () => number;
  readonly tracing: SnapshotterTracing;
}

/** A call with the trace that it is a part of. */
interface TracedCall {
  readonly signal: AbortSignal | undefined;
  readonly trace: Context;
}

const MAX_LOGGED = 4096;

/** Shows layers of images lazily, as committed snapshots. */
export class RemoteLayers {
  readonly #options: RemoteLayersOptions;
  readonly #hints: LayerHints;
  readonly #busy = new Map<string, Promise<unknown>>();
  readonly #logged = new Set<string>();
  readonly #attaching = new Set<number>();

  constructor(options: RemoteLayersOptions) {
    this.#options = options;
    this.#hints = new LayerHints(options.layers);
  }

  /**
   * Tries to show the layer that `request`'s labels name and commits it.
   *
   * @returns `undefined` when a committed snapshot of the chain ID is there now, else why not.
   */
  prepare(request: CreateRequest, options: CallOptions): Promise<FallbackNote | undefined> {
    const labels = request.labels ?? {};
    const ref = labels[LABEL_SNAPSHOT_REF] ?? "";
    const attributes = { "estargz.snapshot.key": request.key, "estargz.snapshot.ref": ref };
    const wanted = { name: "prepare", parent: options.trace ?? noTrace(), server: true, attributes };
    return this.#options.tracing.span(wanted, async (span, inside) => {
      const note = await this.#prepareAndCount(ref, request, labels, { signal: options.signal, trace: inside });
      span.setAttribute("estargz.lazy", note === undefined);
      if (note !== undefined) span.setAttribute("estargz.fallback.code", note.code);
      return note;
    });
  }

  async #prepareAndCount(ref: string, request: CreateRequest, labels: Labels, call: TracedCall): Promise<FallbackNote | undefined> {
    const started = performance.now();
    const note = await this.#serialised(`${ref} ${request.parent}`, () => this.#prepare(ref, request, labels, call));
    if (note === undefined) {
      this.#options.metrics.remoteLayers.add(1);
      this.#options.metrics.referenceMountMilliseconds.observe(performance.now() - started, { operation_type: "mount" });
    } else this.#report(note, labels, ref);
    return note;
  }

  /** Prepares of one chain ID on one parent run one after the other. */
  async #serialised<T>(key: string, task: () => Promise<T>): Promise<T> {
    const before = this.#busy.get(key);
    const mine = (before ?? Promise.resolve()).catch(() => {}).then(task);
    this.#busy.set(key, mine);
    try {
      return await mine;
    } finally {
      if (this.#busy.get(key) === mine) this.#busy.delete(key);
    }
  }

  async #prepare(ref: string, request: CreateRequest, labels: Labels, call: TracedCall): Promise<FallbackNote | undefined> {
    const { signal } = call;
    try {
      const layer = parseLayerLabels(labels);
      describe(call.trace, layer);
      if (layer === undefined) return fallbackNote("NO_IMAGE_LABELS", "the labels do not say which image and layer this is");
      const { policy } = this.#options;
      const allowUnverified = policy.disableVerification === true || (policy.allowNoVerification === true && layer.skipVerify);
      if (layer.tocDigest === undefined && !allowUnverified) {
        return fallbackNote("NO_TOC_DIGEST", `layer ${layer.location.descriptor.digest} has no TOC digest annotation`);
      }
      const prefetchBytes = Math.max(layer.prefetchBytes, policy.prefetchBytes ?? 0);
      // In a moment: this layer's own request goes first.
      setImmediate(() => this.#hints.mention(layer.location, layer.neighbours, prefetchBytes));
      const deadline = AbortSignal.timeout(policy.attachTimeoutMs ?? 30_000);
      const bounded = { signal: signal === undefined ? deadline : AbortSignal.any([signal, deadline]), trace: call.trace };
      const existing = this.#options.store.findRemote(ref, request.parent);
      const remote: RemoteLayer = {
        ref,
        layerDigest: layer.location.descriptor.digest,
        tocDigest: layer.tocDigest,
        locations: [layer.location],
        prefetchBytes,
      };
      if (existing !== undefined) return await this.#join(existing, remote, bounded);
      await this.#attachNew(remote, request, labels, bounded);
      return undefined;
    } catch (error) {
      if (signal?.aborted === true) throw error;
      return fallbackFromError(error);
    }
  }

  /** The chain ID is there already: is it the same content, and may this image see it? */
  async #join(existing: StoredSnapshot, wanted: RemoteLayer, call: TracedCall): Promise<FallbackNote | undefined> {
    const held = existing.remote ?? wanted;
    const sameContent = held.layerDigest === wanted.layerDigest && held.tocDigest === wanted.tocDigest;
    const known = this.#knows(held, wanted.locations);
    if (!sameContent || (wanted.tocDigest === undefined && !known)) {
      return fallbackNote("TARGET_CONFLICT", `${wanted.ref} is held by another image with other content`);
    }
    if (!known) await this.#prove(wanted, call);
    const locations = mergeLocations(held.locations, wanted.locations);
    if (locations.length > held.locations.length) this.#options.store.setLocations(existing.id, locations);
    if (locations.length > held.locations.length || this.#options.layers.get(String(existing.id)) === undefined) {
      await this.attach(existing.id, { ...held, locations }, call);
    }
    return undefined;
  }

  async #attachNew(remote: RemoteLayer, request: CreateRequest, labels: Labels, call: TracedCall): Promise<void> {
    const { layers, store, reserveId } = this.#options;
    const id = reserveId();
    this.#attaching.add(id);
    const held = store.findLayer(remote.layerDigest);
    const known = held.some((snapshot) => this.#knows(snapshot.remote, remote.locations));
    try {
      await this.attach(id, remote, call);
      // Where others hold the layer, or nothing was read for it, it was local: its own repository has to show that it has it.
      const wasLocal = held.length > 0 || !remote.locations.every((location) => this.#options.access?.hasRead(location) ?? true);
      if (!known && wasLocal) await this.#prove(remote, call);
      store.create({
        id,
        name: store.has(remote.ref) ? `${remote.ref}@${id}` : remote.ref,
        parent: request.parent,
        kind: "committed",
        labels,
        remote,
      });
      this.#options.tracing.shown(remote.layerDigest, call.trace);
    } catch (error) {
      await layers.detach(String(id)).catch(() => {});
      if (isEstargzError(error, "ALREADY_EXISTS") && store.findRemote(remote.ref, request.parent) !== undefined) return;
      throw error;
    } finally {
      this.#attaching.delete(id);
    }
  }

  /** Whether a new snapshot with this id is on its way: clean-up leaves its layer alone. */
  isAttaching(id: number): boolean {
    return this.#attaching.has(id);
  }

  /** Whether a held layer was prepared from the repository of any of `locations` before. */
  #knows(held: RemoteLayer | undefined, locations: readonly LayerLocation[]): boolean {
    const repositories = new Set(held?.locations.map((location) => repositoryOf(location.reference)));
    return locations.every((location) => repositories.has(repositoryOf(location.reference)));
  }

  /** Has an image's repository show that it has the layer. Unverified layers are never shared, so nothing is to be shown. */
  async #prove(remote: RemoteLayer, call: TracedCall): Promise<void> {
    const { access } = this.#options;
    const { tocDigest } = remote;
    if (access === undefined || tocDigest === undefined) return;
    const { signal, trace: parent } = call;
    await this.#options.tracing.span({ name: "prove", parent, attributes: layerAttributes(remote) }, () =>
      Promise.all(remote.locations.map((location) => access.prove(location, tocDigest, { signal }))),
    );
  }

  /** Shows a layer for a snapshot id; also after a restart. */
  async attach(id: number, remote: RemoteLayer, call: CallOptions = {}): Promise<void> {
    const { layers, policy, tracing } = this.#options;
    if (remote.tocDigest === undefined && policy.disableVerification !== true && policy.allowNoVerification !== true) {
      throw new EstargzError("UNVERIFIED", `layer ${remote.layerDigest} was shown without verification, which is not allowed any more`);
    }
    const request = {
      owner: String(id),
      locations: remote.locations,
      tocDigest: remote.tocDigest,
      ...(remote.tocDigest === undefined ? { allowUnverified: true } : {}),
      prefetchBytes: remote.prefetchBytes,
    };
    await tracing.span({ name: "open", parent: call.trace ?? noTrace(), attributes: layerAttributes(remote) }, () =>
      layers.attach(request, { signal: call.signal }),
    );
  }

  /** Lets go of a removed snapshot's layer. */
  async detach(id: number, remote: RemoteLayer): Promise<void> {
    for (const location of remote.locations) this.#hints.forget(location);
    await this.#options.layers.detach(String(id));
  }

  #report(note: FallbackNote, labels: Labels, ref: string): void {
    const { logger, metrics } = this.#options;
    metrics.fallbacks.add(1, { code: note.code });
    const layer = safeLabels(labels);
    const key = `${note.code} ${layer?.location.reference ?? ""} ${layer?.location.descriptor.digest ?? ref}`;
    if (this.#logged.has(key)) return;
    if (this.#logged.size >= MAX_LOGGED) this.#logged.clear();
    this.#logged.add(key);
    logger.warn(
      { code: note.code, reference: layer?.location.reference, digest: layer?.location.descriptor.digest, ref },
      `layer is not lazy, containerd pulls it in full: ${note.message}`,
    );
  }
}

function layerAttributes({ layerDigest, locations }: RemoteLayer): Attributes {
  return { "estargz.layer.digest": layerDigest, "estargz.reference": locations.map(({ reference }) => reference).join(" ") };
}

/** Tells the span of a Prepare which layer it is about. */
function describe(inside: Context, layer: LayerLabels | undefined): void {
  if (layer === undefined) return;
  const { reference, descriptor } = layer.location;
  trace.getSpan(inside)?.setAttributes({ "estargz.reference": reference, "estargz.layer.digest": descriptor.digest });
}

function safeLabels(labels: Labels): LayerLabels | undefined {
  try {
    return parseLayerLabels(labels);
  } catch {
    return undefined;
  }
}

/** Both lists, each (reference, digest) once, the known ones first. */
function mergeLocations(known: readonly LayerLocation[], added: readonly LayerLocation[]): readonly LayerLocation[] {
  const all = new Map<string, LayerLocation>();
  for (const location of [...known, ...added]) {
    const key = `${location.reference} ${location.descriptor.digest}`;
    if (!all.has(key)) all.set(key, location);
  }
  return [...all.values()].slice(0, 16);
}

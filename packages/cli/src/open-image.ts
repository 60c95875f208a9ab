import { openLayer } from "@estargz/format";
import { type Descriptor, EstargzError, type Layer, type LayerSource, type ReaderAt } from "@estargz/interface";
import {
  chainKeychain,
  createRegistryClient,
  directHosts,
  dockerConfigKeychain,
  fetchExternalToc,
  type HostResolver,
  hostsDirectory,
  type ImageConfig,
  type ImageStore,
  openImageStore,
  parsePlatform,
  parseReference,
  podmanKeychain,
  type ResolvedImage,
} from "@estargz/registry";
import type { ImageOptions } from "./image-options.ts";

function isRegistry(name: string): boolean {
  return !/^(?:oci|oci-archive|https?):/.test(name);
}

function hostsFor(name: string, options: ImageOptions): HostResolver {
  const plainHttpHosts = options.plainHttp === true && isRegistry(name) ? [parseReference(name).host] : [];
  if (options.hostsDir !== undefined) return hostsDirectory(options.hostsDir, { plainHttpHosts });
  return directHosts({ plainHttpHosts });
}

/** Opens the place of an image: a registry's repository, an OCI layout or an archive of one. Closing it closes its connections. */
export function openStore(name: string, options: ImageOptions): ImageStore {
  const keychain = chainKeychain([dockerConfigKeychain(), podmanKeychain()]);
  const client = createRegistryClient({ hosts: hostsFor(name, options), keychain });
  const store = openImageStore(name, { client });
  const open = store.openBlob.bind(store);
  const close = store.close.bind(store);
  const blobs = new Set<ReaderAt>();
  store.openBlob = (descriptor) => {
    const blob = open(descriptor);
    blobs.add(blob);
    return blob;
  };
  store.close = async () => {
    for (const blob of blobs) await blob.close?.();
    await close();
    await client.close();
  };
  return store;
}

/** An image of one platform. */
export interface OpenedImage extends ResolvedImage {
  readonly store: ImageStore;
  readonly config: ImageConfig;
  /** Reads its layers' blobs. */
  readonly source: LayerSource;
  /** Gets the TOC of a layer that doesn't hold its own. */
  externalToc(layer: Descriptor): Promise<Uint8Array>;
}

/** Options of {@link withImage}. */
export interface WithImageOptions extends ImageOptions {
  /** `os/architecture[/variant]`. Default: Linux on this machine's architecture. */
  readonly platform?: string | undefined;
}

/** Finds an image, lets `use` work with it, and closes its place. */
export async function withImage<T>(
  name: string,
  options: WithImageOptions,
  signal: AbortSignal,
  use: (image: OpenedImage) => Promise<T>,
): Promise<T> {
  const platform = options.platform === undefined ? undefined : parsePlatform(options.platform);
  const store = openStore(name, options);
  try {
    const resolved = await store.resolve({ platform, signal });
    const config = await store.fetchConfig(resolved.manifest, { signal });
    const externalToc = (descriptor: Descriptor): Promise<Uint8Array> => fetchExternalToc(store, descriptor.digest, { signal });
    return await use({ ...resolved, store, config, source: { open: ({ descriptor }) => store.openBlob(descriptor) }, externalToc });
  } finally {
    await store.close();
  }
}

/**
 * Opens every layer of an image, all at the same time.
 *
 * @throws `NOT_ESTARGZ` naming the image, for a layer that cannot be read lazily.
 */
export async function openLayers(
  image: OpenedImage,
  options: { readonly allowUnverified?: boolean | undefined; readonly signal: AbortSignal },
): Promise<Layer[]> {
  const { signal, allowUnverified } = options;
  const { layers } = image.manifest;
  return Promise.all(
    layers.map(async (descriptor, index) => {
      const { annotations } = descriptor;
      try {
        return await openLayer(image.store.openBlob(descriptor), {
          annotations,
          allowUnverified,
          externalToc: () => image.externalToc(descriptor),
          signal,
        });
      } catch (error) {
        if (!(error instanceof EstargzError) || error.code !== "NOT_ESTARGZ") throw error;
        const text = `${image.store.reference} is not an eStargz image: layer ${index + 1} of ${layers.length} has no index`;
        throw new EstargzError("NOT_ESTARGZ", text, { cause: error, details: error.details });
      }
    }),
  );
}

import { EstargzError, isDigest, type LayerLocation, type LayerSource, type ReaderAt } from "@estargz/interface";
import type { ImageStore } from "./image-store.ts";
import { openOciLayout } from "./oci-layout.ts";
import { createRegistryClient, type RegistryClient } from "./registry-client.ts";

/** Options of {@link openImageStore}. */
export interface OpenImageStoreOptions {
  /** Client for references to registries and URLs. Default: one of the store's own, without credentials, closed with it. */
  readonly client?: RegistryClient | undefined;
}

/** Splits `PATH[:TAG]` or `PATH[@DIGEST]`. A colon before the last slash belongs to the path. */
function splitPath(text: string): { readonly path: string; readonly tag: string | undefined } {
  const at = text.lastIndexOf("@");
  if (at > 0 && isDigest(text.slice(at + 1))) return { path: text.slice(0, at), tag: text.slice(at + 1) };
  const colon = text.lastIndexOf(":");
  if (colon > text.lastIndexOf("/") && colon > 0) return { path: text.slice(0, colon), tag: text.slice(colon + 1) };
  return { path: text, tag: undefined };
}

/**
 * Opens the place that `spec` names:
 *
 * - `registry/repository:tag` or `…@sha256:…`, also with `docker://` before it: a registry;
 * - `oci:DIRECTORY[:TAG|@DIGEST]`: an OCI layout;
 * - `oci-archive:FILE[:TAG|@DIGEST]`: one in a tar archive, read only;
 * - `https://host/path[:TAG|@DIGEST]`: one on a web server, read only; http as well.
 *
 * @throws `INVALID_REFERENCE`
 */
export function openImageStore(spec: string, options: OpenImageStoreOptions = {}): ImageStore {
  if (spec.startsWith("oci:")) {
    const { path, tag } = splitPath(spec.slice("oci:".length));
    return openOciLayout(path, { tag });
  }
  if (spec.startsWith("oci-archive:")) {
    const { path, tag } = splitPath(spec.slice("oci-archive:".length));
    return openOciLayout(path, { tag, archive: true });
  }
  const client = options.client ?? createRegistryClient();
  const own = options.client === undefined;
  let store: ImageStore;
  if (/^https?:\/\//.test(spec)) {
    const { path, tag } = splitPath(spec);
    store = client.httpDirectory(path, { tag });
  } else {
    const unknown = /^([a-z][a-z-]*):(?![0-9]+\/)/.exec(spec)?.[1];
    if (unknown !== undefined && ["docker-archive", "docker-daemon", "containers-storage", "dir", "file"].includes(unknown)) {
      throw new EstargzError("INVALID_REFERENCE", `${unknown}: is not supported: use a registry, oci:, oci-archive: or https:`);
    }
    store = client.repository(spec.replace(/^docker:\/\//, ""));
  }
  if (!own) return store;
  const close = store.close.bind(store);
  store.close = async () => {
    await close();
    await client.close();
  };
  return store;
}

/**
 * A `LayerSource` over a client: references as {@link openImageStore} takes them. Readers of one place share its
 * connections, tokens and redirects.
 */
export function asLayerSource(client: RegistryClient): LayerSource {
  return {
    open: ({ reference, descriptor }: LayerLocation): ReaderAt => openImageStore(reference, { client }).openBlob(descriptor),
  };
}

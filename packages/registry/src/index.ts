/**
 * Range reads from, and pushes to, OCI registries; OCI layouts and plain web folders behind the same interface.
 *
 * @example
 * ```ts
 * await using client = createRegistryClient({ keychain: dockerConfigKeychain() });
 * const { manifest } = await client.resolve("node:24");
 * const [layer] = manifest.layers;
 * const blob = client.openBlob({ reference: "node:24", descriptor: layer });
 * const { bytes } = await blob.readTail(64 * 1024);
 * ```
 *
 * @packageDocumentation
 */
export type { BlobContent } from "./blob-content.ts";
export { digestOf } from "./blob-content.ts";
export { externalTocTag, fetchExternalToc } from "./external-toc.ts";
export type { DirectHostsOptions, HostCapability, HostResolver, Mirror, RegistryHost } from "./hosts/host.ts";
export { directHosts, mirrorHosts } from "./hosts/host.ts";
export type { HostsDirectoryOptions } from "./hosts/hosts-toml.ts";
export { hostsDirectory } from "./hosts/hosts-toml.ts";
export type { ProxySettings } from "./http/proxy.ts";
export type { RetryOptions } from "./http/retry.ts";
export type { ConnectionSettings } from "./http/transport.ts";
export type {
  ImageStore,
  PushBlobOptions,
  PushManifestOptions,
  PushOutcome,
  ResolvedImage,
  ResolveOptions,
  StoreOptions,
} from "./image-store.ts";
export { chainKeychain } from "./keychain/chain.ts";
export type { DockerConfigOptions } from "./keychain/docker-config.ts";
export { dockerConfigKeychain, podmanKeychain } from "./keychain/docker-config.ts";
export { environmentKeychain } from "./keychain/environment.ts";
export type { KubernetesKeychainOptions } from "./keychain/kubernetes.ts";
export { kubernetesFileKeychain, kubernetesKeychain } from "./keychain/kubernetes.ts";
export { anonymousKeychain, staticKeychain } from "./keychain/static.ts";
export type { FetchedManifest, ImageConfig, ImageIndex, ImageManifest } from "./manifest.ts";
export { choosePlatform, hostPlatform, parseConfig, parseManifest, parsePlatform } from "./manifest.ts";
export { DOCKER_INDEX, DOCKER_MANIFEST, isIndexMediaType, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST } from "./media-types.ts";
export type { OciLayoutOptions } from "./oci-layout.ts";
export { openOciLayout } from "./oci-layout.ts";
export type { OpenImageStoreOptions } from "./open-image-store.ts";
export { asLayerSource, openImageStore } from "./open-image-store.ts";
export type { PlanOptions } from "./range-planner.ts";
export type { Reference } from "./reference.ts";
export { formatReference, parseReference } from "./reference.ts";
export type { RegistryClient, RegistryClientOptions, RegistryRepository, TimeoutOptions } from "./registry-client.ts";
export { createRegistryClient } from "./registry-client.ts";
export { RegistryError } from "./registry-error.ts";
export { SingleFlight } from "./single-flight.ts";

import type { Credentials, Keychain, Logger } from "@estargz/interface";
import { EstargzError } from "@estargz/interface";
import { chainKeychain, dockerConfigKeychain, staticKeychain } from "@estargz/registry";
import type { ConfiguredCredentials, SnapshotterConfig } from "../config-types.ts";
import { kubeletKeychain } from "./kubelet-keychain.ts";
import { kubernetesKeychain } from "./kubernetes-keychain.ts";

function credentialsOf(host: string, configured: ConfiguredCredentials): Credentials {
  const { username, password, identity_token: identityToken, registry_token: registryToken } = configured;
  if (username !== undefined && password !== undefined) return { type: "basic", username, password };
  if (identityToken !== undefined) return { type: "identity-token", token: identityToken };
  if (registryToken !== undefined) return { type: "registry-token", token: registryToken };
  throw new EstargzError("INVALID_CONFIG", `auth.${JSON.stringify(host)} needs username and password, identity_token or registry_token`);
}

/**
 * The keychains that a configuration names, asked in this order: what is written in it, CRI pulls, kubelet plugins,
 * Kubernetes secrets, docker's configuration. One that fails is logged and the next one is asked.
 */
export function configuredKeychain(config: SnapshotterConfig, cri: Keychain | undefined, logger: Logger): Keychain {
  const keychains: Keychain[] = [];
  const entries = Object.entries(config.auth).map(([host, configured]) => [host, credentialsOf(host, configured)] as const);
  if (entries.length > 0) keychains.push(staticKeychain(Object.fromEntries(entries)));
  if (cri !== undefined) keychains.push(cri);
  const { config_path: configPath, bin_dir: binDirectory } = config.kubelet_credential_provider;
  if (configPath !== "") keychains.push(kubeletKeychain({ configPath, binDirectory }));
  if (config.kubeconfig_keychain.enable_keychain) {
    const { kubeconfig_path: kubeconfigPath, namespaces } = config.kubeconfig_keychain;
    keychains.push(kubernetesKeychain({ kubeconfigPath, namespaces, logger }));
  }
  if (config.docker_keychain.enable_keychain) {
    const path = config.docker_keychain.config_path;
    keychains.push(dockerConfigKeychain(path === "" ? {} : { path }));
  }
  return chainKeychain(keychains, { logger });
}

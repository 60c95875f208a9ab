/** The configuration, with the file's names; see `estargz-snapshotter config default` for every key. */
export interface SnapshotterConfig {
  readonly metrics_address: string;
  readonly no_prometheus: boolean;
  readonly prefetch_size: number;
  readonly noprefetch: boolean;
  readonly no_background_fetch: boolean;
  readonly debug: boolean;
  readonly allow_no_verification: boolean;
  readonly disable_verification: boolean;
  readonly blob: { readonly fetching_timeout_sec: number };
  readonly fuse: {
    readonly passthrough: boolean;
    readonly driver: "auto" | "dev-fuse" | "fuse-native";
    readonly keeper: boolean;
    readonly real_time: boolean;
  };
  readonly kubeconfig_keychain: {
    readonly enable_keychain: boolean;
    readonly kubeconfig_path: string;
    readonly namespaces: readonly string[];
  };
  readonly cri_keychain: {
    readonly enable_keychain: boolean;
    readonly image_service_path: string;
    readonly listen_path: string;
    readonly state_path: string;
  };
  readonly kubelet_credential_provider: { readonly config_path: string; readonly bin_dir: string };
  readonly docker_keychain: { readonly enable_keychain: boolean; readonly config_path: string };
  readonly auth: Readonly<Record<string, ConfiguredCredentials>>;
  readonly resolver: {
    readonly request_timeout_sec: number;
    readonly config_path: string;
    readonly plain_http: readonly string[];
    readonly trusted_realms: readonly string[];
    readonly host: Readonly<Record<string, { readonly mirrors: readonly ConfiguredMirror[] }>>;
  };
  readonly snapshotter: {
    readonly unmount_on_exit: boolean;
    readonly attach_timeout_sec: number;
    readonly upperdir_label: boolean;
    readonly remap_ids: boolean;
    readonly fast_absent_xattrs: boolean;
    readonly mount_options: readonly string[];
  };
  readonly cache: { readonly max_bytes: number };
  readonly fill: { readonly background: "full" | "idle" | "off" };
  readonly log: { readonly level: "debug" | "info" | "warn" | "error" };
  readonly tracing: { readonly endpoint: string };
}

/** Credentials as they are written in the configuration. */
export interface ConfiguredCredentials {
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  readonly identity_token?: string | undefined;
  readonly registry_token?: string | undefined;
}

/** A mirror as it is written in the configuration. */
export interface ConfiguredMirror {
  readonly host: string;
  readonly insecure: boolean;
  readonly request_timeout_sec: number;
  readonly header: Readonly<Record<string, string | string[]>>;
}

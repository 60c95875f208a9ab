import { z } from "zod";
import type { SnapshotterConfig } from "./config-types.ts";

/** How a key relates to the reference implementation's key of the same name. */
type KeyStatus =
  /** Means the same there, or exists only here. */
  | "used"
  /** Known there, has no meaning here; the note says why. */
  | "ignored"
  /** Known there, means something slightly different here; the note says what. */
  | "differs";

/** What is said about a key besides its type. */
export interface KeyNotes {
  readonly help: string;
  readonly status?: KeyStatus;
  readonly note?: string;
}

const UNITS: Readonly<Record<string, number>> = {
  "": 1,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
};

/** Bytes, as a number or like `"20GiB"`. */
const bytes = z.union([z.number().int().min(0), z.string()]).transform((value, context) => {
  if (typeof value === "number") return value;
  const match = /^(\d+(?:\.\d+)?)\s*([KMGT]i?B)?$/.exec(value);
  const unit = UNITS[match?.[2] ?? ""];
  if (match === null || unit === undefined) {
    context.addIssue({ code: "custom", message: `${JSON.stringify(value)} is not a size like 1073741824 or "1GiB"` });
    return 0;
  }
  return Math.floor(Number(match[1]) * unit);
});
const flag = z.boolean();
const seconds = z.number().int();
const count = z.number().int().min(0);
const text = z.string();

const CACHED_BY_DIGEST = "verified chunks are kept once, on disk, by layer digest: see [cache]";
const NEVER_WAITS = "prefetch never delays a container here";

/** A key with its notes; every key has a default. */
function key<T extends z.ZodType>(
  schema: T,
  fallback: z.input<T>,
  help: string,
  status: KeyStatus = "used",
  note?: string,
): z.ZodPrefault<T> {
  return schema.prefault(fallback as never).meta({ help, status, ...(note === undefined ? {} : { note }) });
}

function table<T extends z.ZodRawShape>(shape: T, help: string): z.ZodPrefault<z.ZodObject<T>> {
  return z
    .object(shape)
    .prefault({} as never)
    .meta({ help });
}

const mirror = z.object({
  host: text.describe("host[:port] of the mirror"),
  insecure: flag.default(false).describe("plain HTTP"),
  request_timeout_sec: seconds.default(0),
  header: z.record(text, z.union([text, z.array(text)])).default({}),
});

const credentials = z.object({
  username: text.optional(),
  password: text.optional(),
  identity_token: text.optional(),
  registry_token: text.optional(),
});

/** Every key of the configuration file. The names are the file's. */
const configSchema = z.object({
  metrics_address: key(text, "", "TCP address of /metrics and /healthz, like 127.0.0.1:9099; empty: none"),
  no_prometheus: key(flag, false, "no /metrics on metrics_address"),
  debug_address: key(text, "", "", "ignored", "use Node's own inspector"),
  ipfs: key(flag, false, "", "ignored", "IPFS is not supported"),
  metadata_store: key(text, "memory", "", "ignored", "the index of a layer is a packed file that is mapped as it is"),
  http_cache_type: key(text, "", "", "ignored", CACHED_BY_DIGEST),
  filesystem_cache_type: key(text, "", "", "ignored", CACHED_BY_DIGEST),
  resolve_result_entry_ttl_sec: key(seconds, 120, "", "ignored", "an opened layer is kept on disk until its image is removed"),
  resolve_result_entry: key(seconds, 0, "", "ignored", "deprecated in the reference implementation too"),
  prefetch_size: key(bytes, 0, "bytes to prefetch of a layer that has no landmark"),
  prefetch_timeout_sec: key(seconds, 10, "", "ignored", NEVER_WAITS),
  prefetch_async_size: key(bytes, 0, "", "ignored", NEVER_WAITS),
  noprefetch: key(flag, false, "prefetch nothing"),
  no_background_fetch: key(flag, false, 'do not bring the rest of a layer in the background (same as fill.background = "off")'),
  max_concurrency: key(count, 0, "", "ignored", "requests of a host at once adapt by themselves"),
  debug: key(flag, false, "log at level debug"),
  allow_no_verification: key(flag, false, "show a layer without a TOC digest when the client asks for it"),
  disable_verification: key(flag, false, "show every layer without a TOC digest: what a container sees is then not proven to be the image"),
  log_file_access: key(flag, false, "", "ignored", "use estargz optimize to record accesses"),
  blob: table(
    {
      valid_interval: key(seconds, 60, "", "ignored", "the registry is asked when bytes are needed, not before"),
      check_always: key(flag, false, "", "ignored", "the registry is asked when bytes are needed, not before"),
      chunk_size: key(count, 50_000, "", "ignored", "requests follow the chunks of the layer"),
      fetching_timeout_sec: key(
        seconds.min(1),
        300,
        "how long a read of a file waits for the registry, retries and all, before it ends with EIO",
      ),
      force_single_range_mode: key(flag, false, "", "ignored", "a registry that refuses several ranges is remembered"),
      prefetch_chunk_size: key(count, 0, "", "ignored", "requests follow the chunks of the layer"),
      max_retries: key(count, 5, "", "ignored", "retries are bounded by time, see fetching_timeout_sec"),
      min_wait_msec: key(count, 30, "", "ignored", "retries back off by themselves"),
      max_wait_msec: key(count, 300_000, "", "ignored", "retries back off by themselves"),
    },
    "reading blobs",
  ),
  directory_cache: table(
    {
      max_lru_cache_entry: key(count, 10, "", "ignored", CACHED_BY_DIGEST),
      max_cache_fds: key(count, 10, "", "ignored", CACHED_BY_DIGEST),
      sync_add: key(flag, false, "", "ignored", CACHED_BY_DIGEST),
      direct: key(flag, true, "", "ignored", CACHED_BY_DIGEST),
      fadv_dontneed: key(flag, false, "", "ignored", CACHED_BY_DIGEST),
    },
    "the reference implementation's cache",
  ),
  fuse: table(
    {
      attr_timeout: key(z.number(), 1, "", "ignored", "layers never change: the kernel keeps attributes"),
      entry_timeout: key(z.number(), 1, "", "ignored", "layers never change: the kernel keeps names"),
      passthrough: key(flag, true, "let the kernel read complete big files without asking (kernel 6.9 and newer)"),
      merge_buffer_size: key(count, 419_430_400, "", "ignored", "nothing has to be merged"),
      merge_worker_count: key(count, 10, "", "ignored", "nothing has to be merged"),
      driver: key(z.enum(["auto", "dev-fuse", "fuse-native"]), "auto", "what speaks to the kernel; auto: dev-fuse where it can be used"),
      real_time: key(
        flag,
        true,
        "answer the kernel at real-time priority where that is permitted: short waits on a busy machine, at others' expense (dev-fuse only)",
      ),
      keeper: key(flag, true, "keep mounts alive in a small process of its own while this one restarts (dev-fuse only)"),
    },
    "the file system",
  ),
  kubeconfig_keychain: table(
    {
      enable_keychain: key(flag, false, "use the secrets of type kubernetes.io/dockerconfigjson of a cluster"),
      kubeconfig_path: key(text, "", "empty: $KUBECONFIG, ~/.kube/config, or the pod's own service account"),
      namespaces: key(z.array(text), [], "only secrets of these namespaces, in this order; empty: all"),
    },
    "credentials from Kubernetes secrets",
  ),
  cri_keychain: table(
    {
      enable_keychain: key(flag, false, "serve CRI's image service and remember the credentials of pulls"),
      image_service_path: key(text, "/run/containerd/containerd.sock", "the real image service"),
      listen_path: key(text, "", "own socket of the image service; empty: on the snapshotter's socket"),
      state_path: key(
        text,
        "/run/estargz-snapshotter/credentials.json",
        "where credentials outlive a restart of this process; empty: nowhere",
      ),
    },
    "credentials of CRI pulls",
  ),
  kubelet_credential_provider: table(
    {
      config_path: key(text, "", "the kubelet's --image-credential-provider-config; empty: none"),
      bin_dir: key(text, "", "the kubelet's --image-credential-provider-bin-dir"),
    },
    "credentials from kubelet credential-provider plugins",
  ),
  docker_keychain: table(
    {
      enable_keychain: key(flag, true, "use docker's config.json and its credential helpers"),
      config_path: key(text, "", "empty: $DOCKER_CONFIG/config.json or ~/.docker/config.json"),
    },
    "credentials from docker's configuration",
  ),
  auth: z
    .record(text, credentials)
    .prefault({})
    .meta({ help: 'credentials by host: [auth."registry.example"] username = …, password = …' }),
  resolver: table(
    {
      request_timeout_sec: key(seconds, 30, "bound of one request"),
      config_path: key(text, "/etc/containerd/certs.d", "folders with hosts.toml files, joined by colons; empty: none"),
      plain_http: key(z.array(text), [], "hosts that are spoken to without TLS (localhost always is)"),
      trusted_realms: key(z.array(text), [], "token servers outside of a registry's own domain that get its credentials"),
      host: z
        .record(text, z.object({ mirrors: z.array(mirror).default([]) }))
        .prefault({})
        .meta({ help: 'mirrors by host: [[resolver.host."docker.io".mirrors]] host = …' }),
    },
    "registries",
  ),
  snapshotter: table(
    {
      allow_invalid_mounts_on_restart: key(
        flag,
        true,
        "",
        "ignored",
        "a layer that can't be shown again never keeps the daemon from starting",
      ),
      unmount_on_exit: key(flag, false, "unmount everything when this process ends; containers lose their files"),
      attach_timeout_sec: key(seconds.min(1).max(3600), 30, "bound of opening one layer before containerd pulls it in full"),
      upperdir_label: key(flag, false, "tell the upper directory in a label"),
      remap_ids: key(flag, false, 'support id-mapped snapshots; needs capabilities = ["remap-ids"] in containerd\'s proxy_plugins'),
      fast_absent_xattrs: key(
        flag,
        false,
        "let the kernel answer questions for absent xattrs with EOPNOTSUPP: faster walks, but containerd's Diff service (commit, builds) fails",
      ),
      mount_options: key(z.array(text), [], 'more overlay options, like "volatile"'),
    },
    "the snapshotter",
  ),
  fuse_manager: table(
    {
      enable: key(flag, false, "", "ignored", "the keeper does it, by default: see [fuse] keeper"),
      address: key(text, "", "", "ignored", "the keeper does it, by default: see [fuse] keeper"),
      path: key(text, "", "", "ignored", "the keeper does it, by default: see [fuse] keeper"),
      metrics_address: key(text, "", "", "ignored", "the keeper has nothing to measure"),
    },
    "the reference implementation's FUSE manager",
  ),
  cache: table({ max_bytes: key(bytes, 0, 'local data of layers, at most, like "20GiB"; 0: no limit') }, "local data"),
  fill: table(
    {
      background: key(
        z.enum(["full", "idle", "off"]),
        "full",
        "bring the rest of a layer: at full speed, when nothing else is wanted, or never",
      ),
    },
    "filling layers",
  ),
  log: table({ level: key(z.enum(["debug", "info", "warn", "error"]), "info", "least severe level that is logged") }, "logging"),
  tracing: table(
    {
      endpoint: key(
        text,
        "",
        "OTLP collector (HTTP) that gets spans of Prepare up to the first byte, like http://127.0.0.1:4318; empty: none",
      ),
    },
    "OpenTelemetry traces",
  ),
});

/** Every key of the configuration file, with its schema. */
export const CONFIG_KEYS: Readonly<Record<string, z.ZodType>> = configSchema.shape;

/** Checks types and bounds of a parsed file and fills in defaults. Unknown keys are left out. */
export function parseKeys(value: unknown): z.ZodSafeParseResult<SnapshotterConfig> {
  return configSchema.safeParse(value);
}

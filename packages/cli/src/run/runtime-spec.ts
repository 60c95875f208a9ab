import { EstargzError } from "@estargz/interface";
import type { ContainerUser } from "./container-user.ts";
import type { ImageConfig } from "./image-config.ts";

/** A folder or file of the host in the container. */
export interface Bind {
  readonly source: string;
  readonly destination: string;
  readonly readOnly: boolean;
}

/** What a container is made of besides its image. */
export interface RuntimeSpecOptions {
  readonly rootPath: string;
  readonly user: ContainerUser;
  /** Replaces the image's command; its entrypoint stays. */
  readonly command?: readonly string[] | undefined;
  readonly entrypoint?: readonly string[] | undefined;
  readonly environment?: readonly string[] | undefined;
  readonly workingDirectory?: string | undefined;
  readonly hostname: string;
  readonly terminal: boolean;
  /** `host` shares the host's network, `none` gives an empty one. */
  readonly network: "host" | "none";
  readonly binds: readonly Bind[];
  readonly readOnly: boolean;
}

// The set that containerd and Docker give by default.
const CAPABILITIES = [
  "CAP_CHOWN",
  "CAP_DAC_OVERRIDE",
  "CAP_FSETID",
  "CAP_FOWNER",
  "CAP_MKNOD",
  "CAP_NET_RAW",
  "CAP_SETGID",
  "CAP_SETUID",
  "CAP_SETFCAP",
  "CAP_SETPCAP",
  "CAP_NET_BIND_SERVICE",
  "CAP_SYS_CHROOT",
  "CAP_KILL",
  "CAP_AUDIT_WRITE",
];

const MASKED = ["acpi", "asound", "kcore", "keys", "latency_stats", "timer_list", "timer_stats", "sched_debug", "scsi"];
const READ_ONLY = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

function mounts(options: RuntimeSpecOptions): unknown[] {
  const safe = ["nosuid", "noexec", "nodev"];
  const tmpfs = (destination: string, mountOptions: string[]): unknown => ({
    destination,
    type: "tmpfs",
    source: "tmpfs",
    options: mountOptions,
  });
  return [
    { destination: "/proc", type: "proc", source: "proc", options: safe },
    tmpfs("/dev", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
    {
      destination: "/dev/pts",
      type: "devpts",
      source: "devpts",
      options: ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    },
    tmpfs("/dev/shm", [...safe, "mode=1777", "size=65536k"]),
    { destination: "/dev/mqueue", type: "mqueue", source: "mqueue", options: safe },
    options.network === "host"
      ? { destination: "/sys", type: "none", source: "/sys", options: ["rbind", ...safe, "ro"] }
      : { destination: "/sys", type: "sysfs", source: "sysfs", options: [...safe, "ro"] },
    ...options.binds.map(({ source, destination, readOnly }) => ({
      destination,
      type: "bind",
      source,
      options: ["rbind", "rprivate", readOnly ? "ro" : "rw"],
    })),
  ];
}

function environment(config: ImageConfig, options: RuntimeSpecOptions): string[] {
  const variables = new Map<string, string>();
  variables.set("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
  variables.set("HOSTNAME", options.hostname);
  if (options.terminal) variables.set("TERM", process.env["TERM"] ?? "xterm");
  for (const line of [...config.environment, ...(options.environment ?? [])]) {
    const equals = line.indexOf("=");
    if (equals > 0) variables.set(line.slice(0, equals), line.slice(equals + 1));
  }
  return [...variables].map(([name, value]) => `${name}=${value}`);
}

/**
 * The arguments of a container's first process.
 *
 * @throws `INVALID_ARGUMENT` when neither the image nor the caller says what to run.
 */
export function processArguments(config: ImageConfig, options: Pick<RuntimeSpecOptions, "command" | "entrypoint">): string[] {
  const entrypoint = options.entrypoint ?? config.entrypoint;
  const given = options.command !== undefined && options.command.length > 0;
  const args = [...entrypoint, ...(given ? (options.command ?? []) : options.entrypoint === undefined ? config.command : [])];
  if (args.length === 0) throw new EstargzError("INVALID_ARGUMENT", "the image names no command: say what to run after its name");
  return args;
}

/** Writes the configuration that runc starts a container from (OCI runtime-spec, config.md). */
export function createRuntimeSpec(config: ImageConfig, options: RuntimeSpecOptions): unknown {
  const namespaces = ["pid", "ipc", "uts", "mount", ...(options.network === "none" ? ["network"] : [])];
  return {
    ociVersion: "1.0.2",
    process: {
      terminal: options.terminal,
      user: options.user,
      args: processArguments(config, options),
      env: environment(config, options),
      cwd: options.workingDirectory ?? config.workingDirectory,
      capabilities: { bounding: CAPABILITIES, effective: CAPABILITIES, permitted: CAPABILITIES },
      noNewPrivileges: true,
    },
    root: { path: options.rootPath, readonly: options.readOnly },
    hostname: options.hostname,
    mounts: mounts(options),
    linux: {
      namespaces: namespaces.map((type) => ({ type })),
      resources: { devices: [{ allow: false, access: "rwm" }] },
      maskedPaths: [...MASKED.map((name) => `/proc/${name}`), "/sys/firmware"],
      readonlyPaths: READ_ONLY.map((name) => `/proc/${name}`),
    },
  };
}

import { readFileSync } from "node:fs";
import { parse } from "smol-toml";
import type { DiagnosisCheck } from "./doctor.ts";

/** What containerd's configuration says. */
export interface ContainerdFindings {
  readonly checks: readonly DiagnosisCheck[];
  /** Socket of the snapshotter, if it is named. */
  readonly address: string | undefined;
}

type Table = Readonly<Record<string, unknown>>;

function table(value: unknown, ...path: readonly string[]): Table | undefined {
  let inner = value;
  for (const name of path) {
    if (typeof inner !== "object" || inner === null) return undefined;
    inner = (inner as Table)[name];
  }
  return typeof inner === "object" && inner !== null ? (inner as Table) : undefined;
}

const DROP_IN = '[proxy_plugins.estargz]\n  type = "snapshot"\n  address = "/run/estargz-snapshotter/estargz-snapshotter.sock"';

function findPlugin(config: Table, name: string | undefined): { name: string; plugin: Table } | undefined {
  const plugins = table(config, "proxy_plugins") ?? {};
  const names = name === undefined ? Object.keys(plugins).filter((key) => key.includes("stargz")) : [name];
  for (const candidate of names) {
    const plugin = table(plugins, candidate);
    if (plugin?.["type"] === "snapshot") return { name: candidate, plugin };
  }
  return undefined;
}

/** The CRI settings, where versions 2 and 3 of the file have them. */
function criSettings(config: Table): { snapshotter: unknown; hidden: boolean } | undefined {
  const old = table(config, "plugins", "io.containerd.grpc.v1.cri", "containerd");
  if (old !== undefined) return { snapshotter: old["snapshotter"], hidden: old["disable_snapshot_annotations"] !== false };
  const images = table(config, "plugins", "io.containerd.cri.v1.images");
  if (images !== undefined) return { snapshotter: images["snapshotter"], hidden: images["disable_snapshot_annotations"] !== false };
  return undefined;
}

function checkCri(config: Table, name: string): DiagnosisCheck {
  const id = "containerd.cri";
  const settings = criSettings(config);
  if (settings === undefined) {
    return {
      id,
      status: "skipped",
      message: "no CRI settings: Kubernetes does not use this snapshotter, other clients may (--snapshotter)",
    };
  }
  if (settings.snapshotter !== name) {
    const message = `CRI uses the snapshotter ${JSON.stringify(settings.snapshotter ?? "overlayfs")}`;
    return { id, status: "warning", message, fix: `for Kubernetes, set snapshotter = ${JSON.stringify(name)} in the CRI settings` };
  }
  if (settings.hidden) {
    const fix = "set disable_snapshot_annotations = false in the CRI settings";
    return { id, status: "failed", message: "CRI does not tell the snapshotter which image a layer belongs to", fix };
  }
  return { id, status: "ok", message: `CRI pulls through ${name}` };
}

/** Looks at containerd's configuration file. */
export function checkContainerdConfig(path: string, name: string | undefined): ContainerdFindings {
  const id = "containerd.proxy-plugin";
  let config: Table;
  try {
    config = parse(readFileSync(path, "utf8"));
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === "ENOENT";
    const message = missing ? `${path} does not exist` : `${path} can't be read: ${error instanceof Error ? error.message : String(error)}`;
    return {
      checks: [{ id, status: "failed", message, fix: `containerd needs to know the snapshotter: add\n${DROP_IN}` }],
      address: undefined,
    };
  }
  const found = findPlugin(config, name);
  if (found === undefined) {
    const imports = Array.isArray(config["imports"]) ? " (files it imports are not looked at)" : "";
    const message = `${path} has no proxy plugin of type snapshot${name === undefined ? "" : ` named ${name}`}${imports}`;
    return { checks: [{ id, status: "failed", message, fix: `add\n${DROP_IN}` }], address: undefined };
  }
  const address = typeof found.plugin["address"] === "string" ? found.plugin["address"] : undefined;
  return { checks: [{ id, status: "ok", message: `proxy plugin ${found.name} at ${address}` }, checkCri(config, found.name)], address };
}

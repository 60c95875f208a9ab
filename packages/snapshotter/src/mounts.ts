import { existsSync, readFileSync } from "node:fs";
import { mappingOptions } from "./id-mapping.ts";
import type { Labels, Mount, SnapshotKind } from "./snapshot.ts";

/** What mounts are made of. */
export interface MountPlan {
  readonly kind: SnapshotKind;
  readonly labels: Labels;
  /** The snapshot's own files. */
  readonly upper: string;
  readonly work: string;
  /** Directories of its ancestors, the parent first. */
  readonly lowers: readonly string[];
  /** Options that every overlay gets: {@link overlayOptions} and the configured ones. */
  readonly overlayOptions: readonly string[];
  /** Whether containerd was told that this snapshotter remaps ids. */
  readonly remapIds: boolean;
}

/** Options that this kernel and this user namespace need: `index=off` where the kernel knows it, `userxattr` without full root. */
export function overlayOptions(): string[] {
  const options: string[] = [];
  if (existsSync("/sys/module/overlay/parameters/index")) options.push("index=off");
  if (inUserNamespace()) options.push("userxattr");
  return options;
}

/** Whether this process runs in a user namespace of its own, as a rootless containerd does. */
function inUserNamespace(): boolean {
  try {
    return !/^\s*0\s+0\s+4294967295\s*$/.test(readFileSync("/proc/self/uid_map", "utf8"));
  } catch {
    return false;
  }
}

/** Says how containerd has to mount a snapshot, exactly as its overlayfs snapshotter does. */
export function planMounts(plan: MountPlan): readonly Mount[] {
  const mapping = plan.remapIds ? mappingOptions(plan.labels) : [];
  const [parent] = plan.lowers;
  if (parent === undefined) {
    return [{ type: "bind", source: plan.upper, options: [...mapping, plan.kind === "view" ? "ro" : "rw", "rbind"] }];
  }
  if (plan.kind !== "active" && plan.lowers.length === 1) {
    return [{ type: "bind", source: parent, options: [...mapping, "ro", "rbind"] }];
  }
  const writable = plan.kind === "active" ? [`workdir=${plan.work}`, `upperdir=${plan.upper}`] : [];
  const options = [...mapping, ...plan.overlayOptions, ...writable, `lowerdir=${plan.lowers.join(":")}`];
  return [{ type: "overlay", source: "overlay", options }];
}

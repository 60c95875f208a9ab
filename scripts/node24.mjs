// Finds the Node that this project runs on: the one from npm in node_modules, or the running one if it is new enough.
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
export const pnpmVersion = "12.21.0";
export const pnpmBin = join(root, ".tools", "node_modules", ".bin", "pnpm");

/** Path of a Node that is new enough, or undefined before the packages are installed. */
export function findNode() {
  const fromNpm = join(root, "node_modules", `node-${process.platform}-${process.arch}`, "bin", "node");
  if (existsSync(fromNpm)) return fromNpm;
  const [major, minor] = process.versions.node.split(".").map(Number);
  return major > 22 || (major === 22 && minor >= 19) ? process.execPath : undefined;
}

/** Environment for commands of this project: its Node, its tools, nothing that phones home. */
export function projectEnvironment(extra = {}) {
  const node = findNode();
  const path = [
    node === undefined ? undefined : dirname(node),
    join(root, "node_modules", ".bin"),
    join(root, ".tools", "node_modules", ".bin"),
    process.env.PATH,
  ];
  return { ...process.env, PATH: path.filter(Boolean).join(":"), TURBO_TELEMETRY_DISABLED: "1", DO_NOT_TRACK: "1", ...extra };
}

// `npm run setup`: everything the project needs, on a machine with Node 20 or newer and npm. Idempotent.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { debianPackages, installPackages, missingPackages } from "./debian-packages.mjs";
import { findNode, pnpmBin, pnpmVersion, projectEnvironment, root } from "./node24.mjs";

function run(command, args, options = {}) {
  const result = spawnSync(command, args, { cwd: root, env: projectEnvironment(), encoding: "utf8", ...options });
  if (result.status !== 0) {
    const shown = [result.error?.message, result.stdout, result.stderr].filter(Boolean).join("\n");
    throw new Error(`${command} ${args.join(" ")} failed:\n${shown}`);
  }
  return result;
}

function say(text) {
  process.stderr.write(`setup: ${text}\n`);
}

function pnpm() {
  const manifest = join(root, ".tools", "node_modules", "pnpm", "package.json");
  if (existsSync(manifest) && JSON.parse(readFileSync(manifest, "utf8")).version === pnpmVersion) return;
  say(`installs pnpm ${pnpmVersion} from npm into .tools`);
  mkdirSync(join(root, ".tools"), { recursive: true });
  run("npm", ["install", "--prefix", join(root, ".tools"), "--no-save", "--no-package-lock", "--loglevel=error", `pnpm@${pnpmVersion}`]);
}

/** Changes when one of the files does. */
function fingerprint(paths) {
  const hash = createHash("sha256");
  for (const path of paths) {
    const { size, mtimeMs } = statSync(path);
    hash.update(`${path}\0${size}\0${mtimeMs}\n`);
  }
  return hash.digest("hex");
}

/** Folders of the workspace's packages. */
function workspaceFolders() {
  return ["packages", "examples", "benchmarks"].flatMap((group) => {
    const folder = join(root, group);
    if (!existsSync(folder)) return [];
    return readdirSync(folder)
      .map((name) => join(folder, name))
      .filter((path) => existsSync(join(path, "package.json")))
      .sort();
  });
}

function filesUnder(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? filesUnder(path) : [path];
  });
}

function upToDate(stamp, value) {
  const path = join(root, ".tools", stamp);
  return existsSync(path) && readFileSync(path, "utf8") === value;
}

function stampUp(stamp, value) {
  writeFileSync(join(root, ".tools", stamp), value);
}

function packages() {
  const own = ["package.json", "pnpm-lock.yaml", "pnpm-workspace.yaml"].map((name) => join(root, name));
  const manifests = fingerprint([...own, ...workspaceFolders().map((folder) => join(folder, "package.json"))]);
  if (upToDate("installed", manifests) && findNode() !== undefined && existsSync(join(root, "node_modules", ".modules.yaml"))) return;
  say("installs the npm packages of pnpm-lock.yaml, with Node 24");
  run(pnpmBin, ["install", "--frozen-lockfile", "--reporter=append-only"]);
  stampUp("installed", manifests);
}

function build() {
  const sources = fingerprint([
    join(root, "tsconfig.base.json"),
    ...workspaceFolders().flatMap((folder) => filesUnder(join(folder, "src"))),
  ]);
  const built = existsSync(join(root, "packages", "cli", "dist", "main.js"));
  if (built && upToDate("built", sources)) return;
  say("builds the packages");
  run("turbo", ["run", "build", "--output-logs=errors-only"]);
  stampUp("built", sources);
}

function system() {
  const missing = missingPackages();
  if (missing.length === 0) return;
  if (process.platform !== "linux" || process.getuid?.() !== 0 || spawnSync("apt-get", ["--version"]).status !== 0) {
    say(`these Debian packages are missing; what needs them is left out: ${missing.join(" ")}`);
    say(`install them with: sudo apt-get install --no-install-recommends ${missing.join(" ")}`);
    return;
  }
  say(`installs Debian packages; none is started as a service:`);
  for (const name of missing) say(`  ${name} (${debianPackages[name]})`);
  installPackages(missing);
}

/** Does all of it; says what it installs before it does. */
export function setup() {
  const started = Date.now();
  pnpm();
  packages();
  system();
  build();
  say(`ready in ${((Date.now() - started) / 1000).toFixed(1)} s`);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  try {
    setup();
  } catch (error) {
    say(error.message);
    process.exitCode = 1;
  }
}

import { execFile } from "node:child_process";
import { existsSync, realpathSync } from "node:fs";
import { readdir, realpath } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { ImageCommand, LayerRecipe } from "./build-image.ts";

const run = promisify(execFile);
const root = fileURLToPath(new URL("../../../../", import.meta.url));
const appFolder = fileURLToPath(new URL("../app/", import.meta.url));
const appOwner = { uid: 1000, gid: 1000 };

/** What the service imports, by name. */
const dependencies = ["pako", "smol-toml", "tar-stream", "typescript", "undici", "zod"];

/** Native programs of the development tools, and their own compilers: a service's image has none of them. */
const notInAnImage =
  /^(typescript@(?!5\.9\.)|@esbuild|@biomejs|@bufbuild|@oxlint|@oxc|@turbo|@rolldown|@typescript|@estargz|node-linux|lightningcss|esbuild|playwright|.*linux-(x64|64|arm64))/;

/** Folder of the packages that pnpm has installed, each as `name@version`. */
const store = realpathSync(join(root, "node_modules/.pnpm"));

/** Says whether a file of the store belongs into the image: links into packages that are left out do not either. */
async function isWanted(source: string): Promise<boolean> {
  const real = await realpath(source).catch(() => undefined);
  if (real === undefined) return false;
  return !notInAnImage.test(real.slice(store.length + 1));
}

const etc: Readonly<Record<string, string>> = {
  "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\n",
  "etc/group": "root:x:0:\nnode:x:1000:\n",
  "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
  "etc/hosts": "127.0.0.1 localhost\n",
};

/** Shared libraries (and the loader) that a program links to, as `ldd` names them. */
async function linkedLibraries(program: string, signal?: AbortSignal): Promise<string[]> {
  const { stdout } = await run("ldd", [program], { signal });
  return [...stdout.matchAll(/(\/\S+) \(0x/g)].map((match) => match[1] ?? "").filter((path) => path !== "");
}

async function copyProgram(layer: Parameters<LayerRecipe["fill"]>[0], source: string, path: string): Promise<void> {
  // The library's name may be a link to its version: both are in the image, as Debian has them.
  const real = await realpath(source);
  if (basename(real) === basename(source)) return layer.copy(real, path);
  await layer.copy(real, join(dirname(path), basename(real)));
  layer.symlink(path, basename(real));
}

/** Directories that every base image has, `etc`, a shell and the libraries that `programs` link to. */
function baseLayer(programs: readonly string[]): LayerRecipe {
  return {
    name: "base system",
    async fill(layer, signal) {
      for (const path of ["bin", "dev", "etc", "home", "lib", "lib64", "proc", "root", "run", "sys", "usr", "var"]) layer.directory(path);
      layer.directory("tmp", 0o1777);
      for (const [path, text] of Object.entries(etc)) layer.file(path, text);
      layer.file("etc/shadow", "root:*:20000:0:99999:7:::\n", { mode: 0o640, owner: { uid: 0, gid: 42 } });
      const libraries = new Set<string>();
      for (const program of programs) for (const library of await linkedLibraries(program, signal)) libraries.add(library);
      for (const library of [...libraries].sort()) await copyProgram(layer, library, library.slice(1));
      await layer.copy(await realpath("/bin/sh"), "bin/dash");
      layer.hardLink("bin/sh", "bin/dash", 0o755);
      const certificates = "etc/ssl/certs/ca-certificates.crt";
      if (existsSync(`/${certificates}`)) await layer.copy(`/${certificates}`, certificates);
    },
  };
}

/** Node as its distribution has it: the program, its headers, npm. */
function nodeLayer(): LayerRecipe {
  return {
    name: "node 24",
    async fill(layer, signal) {
      const node = await realpath(join(root, "node_modules", `node-linux-${process.arch}`));
      await layer.copy(join(node, "bin/node"), "usr/local/bin/node", { signal });
      layer.hardLink("usr/local/bin/nodejs", "usr/local/bin/node", 0o755);
      await layer.copy(join(node, "include"), "usr/local/include", { signal });
      if (existsSync(join(node, "share"))) await layer.copy(join(node, "share"), "usr/local/share", { signal });
      const npm = [join(node, "lib/node_modules"), "/usr/lib/node_modules", "/usr/local/lib/node_modules"].find(existsSync);
      if (npm !== undefined) await layer.copy(npm, "usr/local/lib/node_modules", { signal });
    },
  };
}

/** The packages of this workspace as pnpm lays them out, without its native development tools. */
function packagesLayer(): LayerRecipe {
  return {
    name: "node_modules",
    async fill(layer, signal) {
      for (const name of (await readdir(store)).sort()) {
        if (notInAnImage.test(name) || name === "node_modules" || name === "lock.yaml") continue;
        await layer.copy(join(store, name), `srv/node_modules/.pnpm/${name}`, { owner: appOwner, signal, keep: isWanted });
      }
      for (const name of dependencies) {
        const real = await realpath(join(appFolder, "../../node_modules", name));
        layer.symlink(`srv/node_modules/${name}`, real.slice(join(root, "node_modules/").length), appOwner);
      }
      layer.file("srv/node_modules/.build-log", "made by the demo\n", { owner: appOwner });
    },
  };
}

/** The service itself. */
function serviceLayer(): LayerRecipe {
  return {
    name: "service",
    async fill(layer, signal) {
      await layer.copy(appFolder, "srv/app", { owner: appOwner, signal, xattrs: { "user.origin": "examples/demo" } });
      layer.file("srv/package.json", JSON.stringify({ name: "greeter", type: "module", dependencies }), { owner: appOwner });
      layer.file("srv/run.sh", "#!/bin/sh\nexec node /srv/app/server.ts\n", { mode: 0o755, owner: appOwner });
      layer.whiteout("srv/node_modules/.build-log");
    },
  };
}

/** The image of a small Node service: four layers, some 10,000 files. */
export function nodeService(): { readonly layers: LayerRecipe[]; readonly command: ImageCommand } {
  return {
    layers: [baseLayer([process.execPath, "/bin/sh"]), nodeLayer(), packagesLayer(), serviceLayer()],
    command: {
      command: ["/usr/local/bin/node", "/srv/app/server.ts"],
      workingDirectory: "/srv",
      environment: ["PATH=/usr/local/bin:/usr/bin:/bin", "NODE_ENV=production"],
    },
  };
}

/** A few hundred files and a shell script, for a quick look and for CI. */
export function smallService(): { readonly layers: LayerRecipe[]; readonly command: ImageCommand } {
  const packages: LayerRecipe = {
    name: "packages",
    async fill(layer, signal) {
      for (const name of ["typescript", "zod"]) {
        await layer.copy(await realpath(join(appFolder, "../../node_modules", name)), `srv/${name}`, { owner: appOwner, signal });
      }
      layer.file("srv/build.log", "made by the demo\n");
    },
  };
  const script: LayerRecipe = {
    name: "script",
    async fill(layer) {
      const text = "#!/bin/sh\nwhile read -r line; do case $line in *version*) break;; esac; done < /srv/zod/package.json\n";
      layer.file("srv/run.sh", `${text}echo "ready: $line"\n`, { mode: 0o755, xattrs: { "user.origin": "examples/demo" } });
      layer.whiteout("srv/build.log");
    },
  };
  return {
    layers: [baseLayer(["/bin/sh"]), packages, script],
    command: { command: ["/bin/sh", "/srv/run.sh"], workingDirectory: "/srv", environment: ["PATH=/usr/bin:/bin"] },
  };
}

// Runs a program of a remote image that is not here yet, without containerd: main.ts IMAGE PROGRAM [ARGUMENT...]
// Layers are directories whose bytes come when they are read; overlayfs puts them together; unshare and chroot enter them.
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { TOC_DIGEST_ANNOTATION } from "@estargz/format";
import { mountLayers } from "@estargz/fs";
import { parseDigest } from "@estargz/interface";
import { asLayerSource, createRegistryClient, dockerConfigKeychain } from "@estargz/registry";

const [reference = "", ...command] = process.argv.slice(2);
if (reference === "" || command.length === 0) {
  console.error("usage: main.ts IMAGE PROGRAM [ARGUMENT...]");
  process.exit(2);
}

await using client = createRegistryClient({ keychain: dockerConfigKeychain() });
const { manifest } = await client.resolve(reference);
await using mounted = await mountLayers({
  source: asLayerSource(client),
  background: "full",
  layers: manifest.layers.map((descriptor) => ({
    locations: [{ reference, descriptor }],
    tocDigest: parseDigest(descriptor.annotations?.[TOC_DIGEST_ANNOTATION] ?? ""),
  })),
});

const folder = await mkdtemp(join(tmpdir(), "estargz-run-"));
const [root, upper, work] = [join(folder, "root"), join(folder, "upper"), join(folder, "work")];
for (const path of [root, upper, work]) await mkdir(path);
const lower = mounted.layers.map(({ path }) => path).reverse();
const options = `lowerdir=${lower.join(":")},upperdir=${upper},workdir=${work}`;

// A child does the waiting: this process has to answer what is read meanwhile.
const script = 'mount -t overlay overlay -o "$1" "$2" && shift && root=$1 && shift && exec chroot "$root" "$@"';
const child = spawn("unshare", ["--mount", "--pid", "--fork", "sh", "-c", script, "sh", options, root, ...command], { stdio: "inherit" });
process.exitCode = await new Promise<number>((resolve) => child.once("exit", (code) => resolve(code ?? 1)));
await rm(folder, { recursive: true, force: true });

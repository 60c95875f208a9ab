import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { readFile, realpath } from "node:fs/promises";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { directory, file, hardLink, type LayerInput, symlink, writeTar } from "@estargz/format";
import { type Descriptor, parseDigest } from "@estargz/interface";
import { hostPlatform, type ImageStore, openOciLayout } from "@estargz/registry";

const run = promisify(execFile);

/** Files of this machine that a shell needs: itself, its libraries, the loader. */
async function shellFiles(): Promise<LayerInput[]> {
  const { stdout } = await run("ldd", ["/bin/sh"]);
  const libraries = [...stdout.matchAll(/(\/\S+) \(0x/g)].map((match) => match[1] ?? "");
  const folders = new Set<string>();
  const inputs: LayerInput[] = [];
  const add = async (path: string, source: string): Promise<void> => {
    const parts = path.split("/").slice(0, -1);
    parts.forEach((_part, index) => {
      const folder = parts.slice(0, index + 1).join("/");
      if (!folders.has(folder)) inputs.push(directory(folder));
      folders.add(folder);
    });
    inputs.push(file(path, await readFile(await realpath(source)), { mode: 0o755 }));
  };
  await add("bin/sh", "/bin/sh");
  for (const library of libraries) await add(library.slice(1), library);
  return inputs;
}

function describe(mediaType: string, bytes: Uint8Array): Descriptor {
  return { mediaType, digest: parseDigest(`sha256:${createHash("sha256").update(bytes).digest("hex")}`), size: bytes.length };
}

async function pushLayer(store: ImageStore, inputs: readonly LayerInput[]): Promise<{ layer: Descriptor; diffId: string }> {
  const pieces: Uint8Array[] = [];
  for await (const piece of writeTar(inputs)) pieces.push(piece);
  const tar = Buffer.concat(pieces);
  const blob = gzipSync(tar);
  const layer = describe("application/vnd.docker.image.rootfs.diff.tar.gzip", blob);
  await store.pushBlob(layer, blob);
  return { layer, diffId: describe("", tar).digest };
}

/** Text of `/srv/message`. */
export const message = "hello from the image\n";

/** Makes a plain image of two layers that can be run: a shell of this machine, and a few files over it. */
export async function makeShellImage(folder: string): Promise<void> {
  const store = openOciLayout(folder, { tag: "latest" });
  const base = [
    ...(await shellFiles()),
    directory("etc"),
    file("etc/passwd", "root:x:0:0::/:/bin/sh\napp:x:1000:1001::/srv:/bin/sh\n"),
    file("etc/group", "root:x:0:\napp:x:1001:\n"),
    directory("srv"),
    file("srv/gone", "not for long\n"),
    ...["dev", "proc", "sys"].map((name) => directory(name)),
    directory("tmp", { mode: 0o1777 }),
  ];
  const upper = [
    directory("srv"),
    file("srv/message", message, { mode: 0o640, uid: 1000, gid: 1001 }),
    hardLink("srv/again", "srv/message"),
    symlink("srv/link", "message"),
    file("srv/.wh.gone", ""),
    file("srv/data", "0123456789abcdef".repeat(8192)),
  ];
  const layers = [await pushLayer(store, base), await pushLayer(store, upper)];
  const config = Buffer.from(
    JSON.stringify({
      ...hostPlatform(),
      config: { Cmd: ["/bin/sh", "-c", "read -r line < /srv/message; echo $line"], Env: ["GREETING=hello"], WorkingDir: "/srv" },
      rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => diffId) },
      history: [{ created_by: "base" }, { created_by: "upper" }],
    }),
  );
  const configDescriptor = describe("application/vnd.docker.container.image.v1+json", config);
  await store.pushBlob(configDescriptor, config);
  const mediaType = "application/vnd.docker.distribution.manifest.v2+json";
  const manifest = { schemaVersion: 2, mediaType, config: configDescriptor, layers: layers.map(({ layer }) => layer) };
  await store.pushManifest(Buffer.from(JSON.stringify(manifest)), { mediaType });
  await store.close();
}

import { execFile } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterEach, describe, expect, it } from "vitest";
import { createDevFuseDriver, type DevFuseDriver } from "../../src/dev-fuse/dev-fuse-driver.ts";
import type { TestEntry } from "../memory-layer.ts";
import { makeDriverLayer } from "./driver-layer.ts";
import { cleanUp, testFolder } from "./mounts.ts";

const run = promisify(execFile);
const open: DevFuseDriver[] = [];

afterEach(async () => {
  for (const driver of open.splice(0)) await driver.close({ unmount: true });
  cleanUp();
});

/** Runs a script that must succeed, never in this process: it holds the driver. */
const shell = async (script: string): Promise<string> => (await run("sh", ["-euc", script], { maxBuffer: 1e8, encoding: "utf8" })).stdout;

async function start(): Promise<{ driver: DevFuseDriver; folder: string }> {
  const folder = testFolder();
  const driver = await createDevFuseDriver({ mountRoot: join(folder, "m"), keeper: false, workers: 2 });
  open.push(driver);
  return { driver, folder };
}

const attach = (driver: DevFuseDriver, folder: string, number: number, entries: readonly TestEntry[]): Promise<string> =>
  driver.attach(makeDriverLayer({ number, entries, directory: join(folder, "data") }));

/** Makes `merged` of lower directories, the uppermost first, and gives its path. */
async function overlay(folder: string, name: string, lowers: readonly string[], options = ""): Promise<string> {
  const root = join(folder, name);
  await shell(`mkdir -p ${root}/upper ${root}/work ${root}/merged
    mount -t overlay overlay -o lowerdir=${lowers.join(":")},upperdir=${root}/upper,workdir=${root}/work${options} ${root}/merged`);
  return join(root, "merged");
}

const base: TestEntry[] = [
  { path: "etc/kept", content: "kept\n" },
  { path: "etc/removed", content: "removed\n" },
  { path: "etc/replaced", content: "old\n", mode: 0o600 },
  { path: "opt/old", content: "old\n" },
  { path: "opt/sub/old", content: "old\n" },
  { path: "var/dir/a", content: "a\n", uid: 5, gid: 6 },
  { path: "var/dir/b", content: "b".repeat(200_000) },
  { path: "was-file", content: "file\n" },
  { path: "was-dir/x", content: "x\n" },
];

const top: TestEntry[] = [
  { path: "etc/.wh.removed", content: "" },
  { path: "etc/replaced", content: "new\n", mode: 0o644 },
  { path: "opt/.wh..wh..opq", content: "" },
  { path: "opt/new", content: "new\n" },
  { path: "was-file/now-a-directory", content: "1\n" },
  { path: "was-dir", content: "now a file\n" },
];

/** The two layers as a runtime unpacks them, for a native overlay. */
const unpackNatively = (folder: string): Promise<string> =>
  shell(`mkdir -p ${folder}/low/etc ${folder}/low/opt/sub ${folder}/low/var/dir ${folder}/low/was-dir ${folder}/top/etc ${folder}/top/opt ${folder}/top/was-file
    cd ${folder}/low
    echo kept >etc/kept; echo removed >etc/removed; echo old >etc/replaced; chmod 600 etc/replaced; echo old >opt/old; echo old >opt/sub/old
    echo a >var/dir/a; chown 5:6 var/dir/a; head -c 200000 /dev/zero | tr '\\0' b >var/dir/b; echo file >was-file; echo x >was-dir/x
    cd ${folder}/top
    mknod etc/removed c 0 0; echo new >etc/replaced; setfattr -n trusted.overlay.opaque -v y opt; setfattr -n user.overlay.opaque -v y opt; echo new >opt/new
    echo 1 >was-file/now-a-directory; echo now a file >was-dir`);

const describeTree = (root: string): Promise<string> =>
  shell(
    `cd ${root}; find . ! -type d -printf '%P %y %m %U:%G %s %n %l\\n' | sort; find . -type d -printf '%P %m\\n' | sort; find . -type f | sort | xargs -d '\\n' sha256sum; ls -f etc | sort`,
  );

const changes = `
  echo more >>etc/kept; chmod 700 var/dir/a; echo back >etc/removed; rm etc/replaced
  mv var/dir/b var/dir/c; mkdir opt/sub; echo 1 >opt/sub/fresh; rm -r was-file; mkdir was-file; ln etc/kept etc/hard
  ln -s kept etc/soft; truncate -s 100 var/dir/c; touch -d 2001-01-01T00:00:00Z var/dir/a`;

describe("overlayfs over layers", () => {
  it.each(["", ",userxattr"])("merges, hides, copies up and renames as over unpacked layers%s", async (options) => {
    const { driver, folder } = await start();
    const lowers = [await attach(driver, folder, 2, top), await attach(driver, folder, 1, base)];
    // The upper layer has an opaque directory, so it is in the mount with extended attributes.
    expect(lowers.map((path) => path.slice(folder.length))).toEqual(["/m/x/2", "/m/n/1"]);
    await unpackNatively(join(folder, "native"));
    const ours = await overlay(folder, "ours", lowers, options);
    const native = await overlay(folder, "theirs", [`${folder}/native/top`, `${folder}/native/low`], options);
    expect(await describeTree(ours)).toBe(await describeTree(native));
    await shell(`cd ${ours}; ${changes}`);
    await shell(`cd ${native}; ${changes}`);
    expect(await describeTree(ours)).toBe(await describeTree(native));
    expect(await shell(`cat ${ours}/etc/kept ${ours}/etc/removed ${ours}/opt/sub/fresh; ls ${ours}/opt`)).toBe(
      "kept\nmore\nback\n1\nnew\nsub\n",
    );
  });

  it("renames directories whose contents lie in a layer", async () => {
    const { driver, folder } = await start();
    const merged = await overlay(folder, "o", [await attach(driver, folder, 1, base)], ",redirect_dir=on");
    expect(await shell(`cd ${merged}; mv var/dir var/moved; cat var/moved/a; ls var; mv var/moved opt/again; wc -c <opt/again/b`)).toBe(
      "a\nmoved\n200000\n",
    );
  });

  it("takes 128 lower layers, named relative to their parent", async () => {
    const { driver, folder } = await start();
    const lowers: string[] = [];
    for (let number = 1; number <= 128; number += 1) {
      lowers.unshift(
        await attach(driver, folder, number, [
          { path: "common", content: `${number}\n` },
          { path: `only/${number}`, content: `${number}` },
        ]),
      );
    }
    const relative = lowers.map((path) => path.slice(`${folder}/m/`.length));
    const option = `lowerdir=${relative.join(":")}`;
    expect(option.length).toBeLessThan(1000);
    await shell(`mkdir ${folder}/merged; env -C ${folder}/m mount -t overlay overlay -o ${option} ${folder}/merged`);
    expect(
      await shell(`cat ${folder}/merged/common; ls ${folder}/merged/only | wc -l; cat ${folder}/merged/only/1 ${folder}/merged/only/128`),
    ).toBe("128\n128\n1128");
    expect(driver.statistics().errors).toBe(0);
  });

  it("is shifted by id-mapped mounts, alone and below an overlay", async () => {
    const { driver, folder } = await start();
    const path = await attach(driver, folder, 1, base);
    await shell(
      `gcc -O2 -o ${folder}/idmap ${fileURLToPath(new URL("../c/idmap.c", import.meta.url))}; mkdir ${folder}/shifted; ${folder}/idmap ${path} ${folder}/shifted 100000`,
    );
    expect(await shell(`stat -c %u:%g ${folder}/shifted/var/dir/a ${folder}/shifted/etc; cat ${folder}/shifted/var/dir/a`)).toBe(
      "100005:100006\n100000:100000\na\n",
    );
    const merged = await overlay(folder, "o", [`${folder}/shifted`]);
    expect(
      await shell(
        `stat -c %u:%g ${merged}/var/dir/a; echo more >>${merged}/var/dir/a; stat -c %u:%g ${merged}/var/dir/a; cat ${merged}/var/dir/a`,
      ),
    ).toBe("100005:100006\n100005:100006\na\nmore\n");
    await shell(`umount -l ${merged} ${folder}/shifted`);
  });

  it("runs programs from an overlay", async () => {
    const { driver, folder } = await start();
    const path = await attach(driver, folder, 1, [{ path: "bin/hello", content: "#!/bin/sh\necho hello from $0\n", mode: 0o755 }]);
    const merged = await overlay(folder, "o", [path]);
    expect(await shell(`cd ${merged} && bin/hello`)).toBe("hello from bin/hello\n");
  });
});

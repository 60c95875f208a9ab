import { mkdir, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { mountAll, unmount } from "./mounting.ts";
import type { MountUnderTest, SnapshotInfoUnderTest, SnapshotterUnderTest } from "./snapshotter-under-test.ts";
import { changes, describeTree, directory, file, linked, owned, removed, renamed, type TreeChange } from "./tree-changes.ts";

/** What {@link snapshotterSuite} needs of an implementation. */
export interface SnapshotterSuiteOptions {
  /** Gives a snapshotter without snapshots in it. Called before each test. */
  setup(): Promise<SnapshotterUnderTest>;
  /** Takes it away. Called after each test. */
  teardown(): Promise<void>;
}

const ROOT_LABEL = { "containerd.io/gc.root": "2026-01-01T00:00:00Z" };

/** A snapshotter, a folder to work in, and every mount that a test made. */
class Playground {
  readonly snapshotter: SnapshotterUnderTest;
  readonly work: string;
  readonly #mounted: string[] = [];
  #count = 0;

  constructor(snapshotter: SnapshotterUnderTest, work: string) {
    this.snapshotter = snapshotter;
    this.work = work;
  }

  async mount(mounts: readonly MountUnderTest[], name?: string): Promise<string> {
    this.#count += 1;
    const target = join(this.work, name ?? `mount-${this.#count}`);
    await mkdir(target, { recursive: true });
    await mountAll(mounts, target);
    this.#mounted.push(target);
    return target;
  }

  async prepareMounted(key: string, parent: string): Promise<string> {
    const mounts = await this.snapshotter.prepare({ key, parent, labels: ROOT_LABEL });
    expect(mounts.length).toBeGreaterThan(0);
    return await this.mount(mounts, key);
  }

  prepare(key: string, parent: string, labels: Readonly<Record<string, string>> = ROOT_LABEL): Promise<readonly MountUnderTest[]> {
    return this.snapshotter.prepare({ key, parent, labels });
  }

  view(key: string, parent: string, labels: Readonly<Record<string, string>> = ROOT_LABEL): Promise<readonly MountUnderTest[]> {
    return this.snapshotter.view({ key, parent, labels });
  }

  commit(name: string, key: string, labels: Readonly<Record<string, string>> = ROOT_LABEL): Promise<void> {
    return this.snapshotter.commit({ name, key, labels });
  }

  async unmountAll(): Promise<void> {
    for (const target of this.#mounted.splice(0).reverse()) await unmount(target);
  }

  /** A chain of snapshots, each compared in a view with the same changes made to one directory. */
  async checkChain(...steps: readonly TreeChange[]): Promise<void> {
    const flat = await mkdtemp(join(this.work, "flat-"));
    let parent = "";
    for (const step of steps) {
      this.#count += 1;
      const name = `chain-${this.#count}`;
      const target = await this.prepareMounted(`${name}-prepare`, parent);
      await step(target);
      await this.unmountAll();
      await this.commit(name, `${name}-prepare`);
      await step(flat);
      const view = await this.mount(await this.view(`${name}-view`, name));
      expect(await describeTree(view)).toEqual(await describeTree(flat));
      await this.unmountAll();
      await this.snapshotter.remove(`${name}-view`);
      parent = name;
    }
  }
}

/**
 * The behaviours that containerd expects of a snapshotter, one test for each of the 21 sub-tests of its own suite. Needs
 * root and overlayfs.
 */
export function snapshotterSuite(name: string, options: SnapshotterSuiteOptions): void {
  describe(`${name} as a snapshotter`, () => {
    let play: Playground;
    beforeEach(async () => {
      play = new Playground(await options.setup(), await mkdtemp(join(tmpdir(), "estargz-suite-")));
    });
    afterEach(async () => {
      await play.unmountAll();
      await options.teardown();
      await rm(play.work, { recursive: true, force: true });
    });
    lifeCycle(() => play);
    metadata(() => play);
    layering(() => play);
  });
}

function lifeCycle(playground: () => Playground): void {
  it("goes through the whole life of snapshots (Basic)", async () => {
    const play = playground();
    const first = changes(file("/foo", "foo\n", 0o777), directory("/a", 0o755), directory("/a/b", 0o755), directory("/a/b/c", 0o755));
    const second = changes(file("/bar", "bar\n", 0o777), removed("/a/b"));
    await first(await play.prepareMounted("preparing", ""));
    await play.unmountAll();
    await play.commit("committed", "preparing");
    expect(await play.snapshotter.stat("committed")).toMatchObject({ parent: "", kind: "committed" });
    await expect(play.snapshotter.stat("preparing")).rejects.toMatchObject({ code: "NOT_FOUND" });

    const next = await play.prepareMounted("next", "committed");
    const expected = await mkdtemp(join(play.work, "expected-"));
    await first(expected);
    expect(await describeTree(next)).toEqual(await describeTree(expected));
    await second(next);
    await play.unmountAll();
    expect(await play.snapshotter.stat("next")).toMatchObject({ parent: "committed", kind: "active" });
    await play.commit("committed-next", "next");
    await expect(play.snapshotter.stat("next")).rejects.toMatchObject({ code: "NOT_FOUND" });
    const walked = new Map((await play.snapshotter.walk()).map((info) => [info.name, info]));
    for (const key of ["committed", "committed-next"]) expect(walked.get(key)).toEqual(await play.snapshotter.stat(key));

    await second(expected);
    const view = await play.mount(await play.view("view", "committed-next"));
    expect(await describeTree(view)).toEqual(await describeTree(expected));
    await play.unmountAll();
    await play.snapshotter.remove("view");
    await expect(play.snapshotter.remove("committed")).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
    await play.snapshotter.remove("committed-next");
    await play.snapshotter.remove("committed");
  });

  it("tells of an active snapshot (StatActive)", async () => {
    const play = playground();
    await writeFile(join(await play.prepareMounted("preparing", ""), "foo"), "foo\n");
    expect(await play.snapshotter.stat("preparing")).toMatchObject({ name: "preparing", kind: "active", parent: "" });
  });

  it("tells of a committed snapshot (StatCommitted)", async () => {
    const play = playground();
    await writeFile(join(await play.prepareMounted("preparing", ""), "foo"), "foo\n");
    await play.commit("committed", "preparing");
    expect(await play.snapshotter.stat("committed")).toMatchObject({ name: "committed", kind: "committed", parent: "" });
    expect((await play.snapshotter.usage("committed")).inodes).toBe(2);
  });

  it("keeps a chain of parents (Transitivity)", async () => {
    const play = playground();
    await writeFile(join(await play.prepareMounted("preparing", ""), "foo"), "foo\n");
    await play.commit("a", "preparing");
    await writeFile(join(await play.prepareMounted("next", "a"), "foo"), "foo bar\n");
    await play.commit("b", "next");
    expect((await play.snapshotter.stat("a")).parent).toBe("");
    const b = await play.snapshotter.stat("b");
    expect(b.parent).toBe("a");
    expect((await play.snapshotter.stat(b.parent)).parent).toBe("");
  });

  it("refuses a key that is in use (PrepareView)", async () => {
    const play = playground();
    await play.prepare("preparing", "");
    await play.commit("a", "preparing");
    await play.prepare("first", "a");
    await expect(play.view("first", "a")).rejects.toMatchObject({ code: "ALREADY_EXISTS" });
    await expect(play.prepare("first", "a")).rejects.toMatchObject({ code: "ALREADY_EXISTS" });
    await play.view("seen", "a");
    await expect(play.view("seen", "a")).rejects.toMatchObject({ code: "ALREADY_EXISTS" });
  });

  it("gives a removed key free again (Remove)", async () => {
    const play = playground();
    await play.prepare("active", "");
    await play.commit("committed", "active");
    await play.prepare("reused", "committed");
    await play.snapshotter.remove("reused");
    await play.view("reused", "committed");
    await play.snapshotter.remove("reused");
    await play.prepare("reused", "");
    await play.snapshotter.remove("committed");
    await play.commit("committed", "reused");
  });

  it("refuses to remove a snapshot that has children (RemoveIntermediateSnapshot)", async () => {
    const play = playground();
    await play.prepareMounted("base", "");
    await play.commit("committed-base", "base");
    await play.prepare("between", "committed-base");
    await play.commit("committed-between", "between");
    await play.prepare("top", "committed-between");
    await expect(play.snapshotter.remove("committed-between")).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
    await play.snapshotter.remove("top");
    await play.snapshotter.remove("committed-between");
    await play.unmountAll();
    await play.snapshotter.remove("committed-base");
  });

  it("can be closed twice (CloseTwice)", async () => {
    const play = playground();
    await play.prepare("active", "");
    await play.commit("committed", "active");
    await play.snapshotter.remove("committed");
    await play.snapshotter.close();
    await play.snapshotter.close();
  });
}

async function makeBase(play: Playground): Promise<Pick<SnapshotInfoUnderTest, "name" | "kind" | "parent">[]> {
  await play.prepare("c1-a", "");
  await play.commit("c1", "c1-a");
  await play.prepare("c2-a", "c1");
  await play.commit("c2", "c2-a");
  await play.prepare("a1", "c2");
  await play.prepare("a2", "");
  await play.view("v1", "c2");
  await play.view("v2", "");
  return [
    { name: "c1", kind: "committed", parent: "" },
    { name: "c2", kind: "committed", parent: "c1" },
    { name: "a1", kind: "active", parent: "c2" },
    { name: "a2", kind: "active", parent: "" },
    { name: "v1", kind: "view", parent: "c2" },
    { name: "v2", kind: "view", parent: "" },
  ];
}

function metadata(playground: () => Playground): void {
  it("updates labels and nothing else (Update)", async () => {
    const play = playground();
    const before = Date.now();
    const base = await makeBase(play);
    const after = Date.now();
    for (const expected of base) {
      const { snapshotter } = play;
      const info = await snapshotter.stat(expected.name);
      expect(info).toMatchObject(expected);
      expect(info.createdAtMs).toBeGreaterThanOrEqual(before - 1);
      expect(info.createdAtMs).toBeLessThanOrEqual(after);
      expect(info.updatedAtMs).toBe(info.createdAtMs);

      const all = { ...ROOT_LABEL, l1: "v1", l2: "v2", l3: "v3" };
      const updated = await snapshotter.update({ name: info.name, labels: all });
      expect(updated).toMatchObject({ ...expected, createdAtMs: info.createdAtMs });
      expect(updated.labels).toEqual(all);
      expect(updated.updatedAtMs).toBeGreaterThanOrEqual(info.createdAtMs);

      const some = await snapshotter.update({ name: info.name, labels: { l1: "updated", l4: "v4" } }, ["labels.l1", "labels.l2"]);
      expect(some.labels).toEqual({ ...ROOT_LABEL, l1: "updated", l3: "v3" });
      const replaced = await snapshotter.update({ name: info.name, labels: { ...ROOT_LABEL, l4: "v4" } }, ["labels"]);
      expect(replaced.labels).toEqual({ ...ROOT_LABEL, l4: "v4" });
      await expect(snapshotter.update({ name: info.name, labels: {} }, ["parent"])).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    }
  });

  it("walks through what filters match (Walk)", async () => {
    const play = playground();
    const root = { "containerd.io/gc.root": "check-walk" };
    await play.prepare("a-np", "", root);
    await play.prepare("p-tmp", "", root);
    await play.commit("p", "p-tmp", root);
    await play.prepare("a", "p", root);
    await play.view("v", "p", root);
    await play.prepare("p-wl-tmp", "", root);
    await play.commit("p-wl", "p-wl-tmp", { ...root, l: "1" });
    await play.prepare("a-wl", "p-wl", { ...root, l: "2" });
    await play.view("v-wl", "p-wl", { ...root, l: "3" });
    await play.prepare("a-np-wl", "", { ...root, l: "2" });
    const ours = `labels."containerd.io/gc.root"==check-walk`;
    const cases: readonly [readonly string[], readonly string[]][] = [
      [["a-np", "p", "a", "v", "p-wl", "a-wl", "v-wl", "a-np-wl"], [ours]],
      [["a-np", "a", "a-wl", "a-np-wl"], [`kind==active,${ours}`]],
      [["v", "v-wl"], [`kind==view,${ours}`]],
      [["p", "p-wl"], [`kind==committed,${ours}`]],
      [
        ["p", "a-np-wl"],
        ["name==p", "name==a-np-wl"],
      ],
      [["a-wl"], ["name==a-wl,labels.l"]],
      [["a", "v"], ["parent==p"]],
      [["a", "v", "a-wl", "v-wl"], [`parent!="",${ours}`]],
      [["p-wl", "a-wl", "v-wl", "a-np-wl"], ["labels.l"]],
      [["a-wl", "a-np-wl"], ["labels.l==2"]],
    ];
    for (const [matches, filters] of cases) {
      const names = (await play.snapshotter.walk(filters)).map((info) => info.name);
      expect([filters, names.sort()]).toEqual([filters, [...matches].sort()]);
    }
  });

  it("can be asked about snapshots while they are listed (StatInWalk)", async () => {
    const play = playground();
    await makeBase(play);
    const walked = await play.snapshotter.walk();
    expect(walked.length).toBeGreaterThanOrEqual(6);
    for (const info of walked) expect(await play.snapshotter.stat(info.name)).toEqual(info);
  });
}

function layering(playground: () => Playground): void {
  it("shows updated files (LayerFileUpdate)", async () => {
    const first = changes(
      directory("/etc", 0o700),
      file("/etc/hosts", "mydomain 10.0.0.1", 0o644),
      file("/etc/profile", "PATH=/usr/bin", 0o644),
    );
    const second = changes(
      file("/etc/hosts", "mydomain 10.0.0.2", 0o644),
      file("/etc/profile", "PATH=/usr/bin", 0o666),
      directory("/root", 0o700),
      file("/root/.bashrc", "PATH=/usr/sbin:/usr/bin", 0o644),
    );
    for (let round = 0; round < 3; round += 1) await playground().checkChain(first, second);
  });

  it("hides a replaced directory's former content (RemoveDirectoryInLowerLayer)", async () => {
    await playground().checkChain(
      changes(directory("/lib", 0o700), file("/lib/hidden", "", 0o644)),
      changes(removed("/lib"), directory("/lib", 0o700), file("/lib/not-hidden", "", 0o644)),
      file("/lib/newfile", "", 0o644),
    );
  });

  it("keeps changed owners (Chown)", async () => {
    await playground().checkChain(
      changes(
        directory("/opt", 0o700),
        directory("/opt/a", 0o700),
        directory("/opt/a/b", 0o700),
        file("/opt/a/b/file.txt", "hello", 0o644),
      ),
      changes(owned("/opt", 1, 1), owned("/opt/a", 1, 1), owned("/opt/a/b", 1, 1), owned("/opt/a/b/file.txt", 1, 1)),
    );
  });

  it("keeps directories' permissions (DirectoryPermissionOnCommit)", async () => {
    await playground().checkChain(
      changes(
        ...[1, 2, 3, 4, 5].map((number) => directory(`/dir${number}`, 0o700)),
        file("/dir4/f1", "...", 0o644),
        file("/dir5/f1", "...", 0o644),
        ...["/dir1", "/dir2", "/dir3", "/dir5", "/dir5/f1"].map((path) => owned(path, 1, 1)),
      ),
      changes(owned("/dir2", 0, 0), removed("/dir3"), owned("/dir4", 1, 1), owned("/dir4/f1", 1, 1)),
      changes(directory("/dir3", 0o700), owned("/dir3", 1, 1), removed("/dir5"), directory("/dir5", 0o700), owned("/dir5", 1, 1)),
    );
  });

  it("hides deleted files (DeletedFilesInChildSnapshot)", async () => {
    await playground().checkChain(changes(file("/foo", "foo\n", 0o777), file("/foobar", "foobar\n", 0o777)), removed("/foobar"), changes());
  });

  it("moves files out of lower layers (MoveFileFromLowerLayer)", async () => {
    await playground().checkChain(
      changes(directory("/dir1", 0o700), file("/dir1/f1", "Hello", 0o644), directory("/dir2", 0o700), file("/dir2/f2", "...", 0o644)),
      changes(
        directory("/dir3", 0o700),
        file("/dir3/f1", "Hello", 0o644),
        removed("/dir1"),
        linked("/dir2/f2", "/dir3/f2"),
        removed("/dir2/f2"),
      ),
    );
  });

  it("renames files and directories (Rename)", async () => {
    await playground().checkChain(
      changes(
        directory("/dir1", 0o700),
        directory("/somefiles", 0o700),
        file("/somefiles/f1", "was here first!", 0o644),
        file("/somefiles/f2", "nothing interesting", 0o644),
      ),
      changes(
        renamed("/dir1", "/dir2"),
        file("/somefiles/f1-overwrite", "new content 1", 0o644),
        renamed("/somefiles/f1-overwrite", "/somefiles/f1"),
        renamed("/somefiles/f2", "/somefiles/f3"),
      ),
    );
  });

  it("lets nobody write to a view (ViewReadonly)", async () => {
    const play = playground();
    await play.prepare("preparing", "");
    await play.commit("committed", "preparing");
    const view = await play.mount(await play.view("view", "committed"));
    await expect(writeFile(join(view, "testfile"), "test")).rejects.toMatchObject({ code: "EROFS" });
    await play.unmountAll();
    await play.snapshotter.remove("view");
    await play.snapshotter.remove("committed");
  });

  it("gives the root directory mode 0755 (RootPermission)", async () => {
    const root = await playground().prepareMounted("preparing", "");
    expect((await stat(root)).mode & 0o777).toBe(0o755);
  });

  it("mounts 128 layers (128LayersMount)", async () => {
    const play = playground();
    const steps = [
      changes(
        file("/bottom", "way at the bottom\n", 0o777),
        file("/overwriteme", "FIRST!\n", 0o777),
        directory("/ADDHERE", 0o755),
        directory("/ONLYME", 0o755),
        file("/ONLYME/bottom", "bye!\n", 0o777),
      ),
      ...Array.from({ length: 127 }, (_, index) =>
        changes(
          file("/overwriteme", `${index + 1} WAS HERE!\n`, 0o777),
          file(`/ADDHERE/file-${index + 1}`, "same\n", 0o755),
          removed("/ONLYME"),
          directory("/ONLYME", 0o755),
          file(`/ONLYME/file-${index + 1}`, "only me!\n", 0o777),
        ),
      ),
    ];
    const flat = await mkdtemp(join(play.work, "flat-"));
    let parent = "";
    for (const [index, step] of steps.entries()) {
      const target = await play.mount(await play.prepare(`layer-${index}`, parent), "layer");
      await step(target);
      await step(flat);
      // Every 16th is enough to see a layer that goes wrong, and 128 comparisons of growing trees would take long.
      const compared = index % 16 === 0 ? [await describeTree(target), await describeTree(flat)] : [];
      expect(compared[0]).toEqual(compared[1]);
      await play.unmountAll();
      parent = `committed-${index}`;
      await play.commit(parent, `layer-${index}`);
    }
    const view = await play.mount(await play.view("full", parent));
    expect(await describeTree(view)).toEqual(await describeTree(flat));
  });
}

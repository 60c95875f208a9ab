import { afterEach, beforeEach, describe, expect, it } from "vitest";

type Labels = Readonly<Record<string, string>>;

interface SnapshotUnderTest {
  readonly id: number;
  readonly name: string;
  readonly parent: string;
  readonly kind: "active" | "view" | "committed";
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
  readonly labels: Labels;
  readonly usage: { readonly bytes: number; readonly inodes: number } | undefined;
}

/** The shape of a store that {@link snapshotStoreSuite} can run against; `SnapshotStore` of `@estargz/snapshotter` has it. */
export interface SnapshotStoreUnderTest {
  create(snapshot: {
    readonly id: number;
    readonly name: string;
    readonly parent: string;
    readonly kind: "active" | "view" | "committed";
    readonly labels: Labels;
  }): SnapshotUnderTest;
  commit(request: {
    readonly key: string;
    readonly name: string;
    readonly labels: Labels;
    readonly usage: { readonly bytes: number; readonly inodes: number };
    readonly parent?: string | undefined;
  }): SnapshotUnderTest;
  remove(name: string): SnapshotUnderTest;
  update(name: string, labels: Labels, paths: readonly string[]): SnapshotUnderTest;
  get(name: string): SnapshotUnderTest;
  ancestors(name: string): readonly SnapshotUnderTest[];
  all(): readonly SnapshotUnderTest[];
  has(name: string): boolean;
  close(): void;
}

/** What {@link snapshotStoreSuite} needs of an implementation. */
export interface SnapshotStoreSuiteOptions {
  /** Gives an empty store. Called before each test; the suite closes it. */
  setup(): SnapshotStoreUnderTest;
  /** Closes the store and opens it again from what it has kept; left out by stores that keep nothing. */
  readonly reopen?: ((store: SnapshotStoreUnderTest) => SnapshotStoreUnderTest) | undefined;
}

/** What containerd expects of the metadata store of a snapshotter. */
export function snapshotStoreSuite(name: string, options: SnapshotStoreSuiteOptions): void {
  describe(`${name} as a snapshot store`, () => {
    let store: SnapshotStoreUnderTest;
    let id = 0;
    beforeEach(() => {
      store = options.setup();
      id = 0;
    });
    afterEach(() => store.close());

    const add = (key: string, parent = "", kind: "active" | "view" = "active"): SnapshotUnderTest => {
      id += 1;
      return store.create({ id, name: key, parent, kind, labels: { of: key } });
    };
    const addCommitted = (key: string, parent = ""): SnapshotUnderTest => {
      add(`${key}-active`, parent);
      return store.commit({ key: `${key}-active`, name: key, labels: {}, usage: { bytes: 10, inodes: 2 } });
    };
    const codeOf = (action: () => unknown): unknown => {
      try {
        action();
        return "none";
      } catch (error) {
        return (error as { code: unknown }).code;
      }
    };

    it("keeps what it is given", () => {
      const created = add("a");
      expect(created).toMatchObject({ id: 1, name: "a", parent: "", kind: "active", labels: { of: "a" }, usage: undefined });
      expect(created.updatedAtMs).toBe(created.createdAtMs);
      expect(store.get("a")).toEqual(created);
      expect(store.has("a")).toBe(true);
    });

    it("renames a committed snapshot, keeps its id, and replaces its labels", () => {
      add("a");
      const committed = store.commit({ key: "a", name: "c", labels: { l: "1" }, usage: { bytes: 10, inodes: 2 } });
      expect(committed).toMatchObject({ id: 1, name: "c", kind: "committed", labels: { l: "1" }, usage: { bytes: 10, inodes: 2 } });
      expect(store.has("a")).toBe(false);
    });

    it("knows a chain of ancestors, the nearest first", () => {
      let parent = "";
      for (let layer = 0; layer < 130; layer += 1) parent = addCommitted(`c${layer}`, parent).name;
      add("top", parent);
      const names = store.ancestors("top").map((snapshot) => snapshot.name);
      expect(names.length).toBe(130);
      expect([names[0], names.at(-1)]).toEqual(["c129", "c0"]);
      expect(store.ancestors("c0")).toEqual([]);
    });

    it("refuses a parent that is missing or not committed, and a name in use", () => {
      add("a");
      addCommitted("c");
      expect(codeOf(() => add("x", "missing"))).toBe("NOT_FOUND");
      expect(codeOf(() => add("x", "a"))).toBe("INVALID_ARGUMENT");
      expect(codeOf(() => add("a"))).toBe("ALREADY_EXISTS");
      expect(codeOf(() => add("c", "", "view"))).toBe("ALREADY_EXISTS");
      expect(store.all().map((snapshot) => snapshot.name)).toEqual(["a", "c"]);
    });

    it("commits active snapshots only, under a free name", () => {
      add("a");
      add("v", "", "view");
      addCommitted("c");
      const usage = { bytes: 0, inodes: 0 };
      expect(codeOf(() => store.commit({ key: "a", name: "c", labels: {}, usage }))).toBe("ALREADY_EXISTS");
      expect(codeOf(() => store.commit({ key: "v", name: "n", labels: {}, usage }))).toBe("FAILED_PRECONDITION");
      expect(codeOf(() => store.commit({ key: "c", name: "n", labels: {}, usage }))).toBe("FAILED_PRECONDITION");
      expect(codeOf(() => store.commit({ key: "none", name: "n", labels: {}, usage }))).toBe("NOT_FOUND");
    });

    it("removes what has no children", () => {
      addCommitted("c");
      add("a", "c");
      expect(codeOf(() => store.remove("c"))).toBe("FAILED_PRECONDITION");
      expect(store.remove("a").name).toBe("a");
      expect(store.remove("c").name).toBe("c");
      expect(codeOf(() => store.remove("c"))).toBe("NOT_FOUND");
      expect(store.all()).toEqual([]);
    });

    it("changes labels by path, and nothing else", () => {
      add("a");
      expect(store.update("a", { x: "1", y: "2" }, []).labels).toEqual({ x: "1", y: "2" });
      expect(store.update("a", { x: "3", z: "4" }, ["labels.x", "labels.y"]).labels).toEqual({ x: "3" });
      expect(store.update("a", { z: "4" }, ["labels"]).labels).toEqual({ z: "4" });
      expect(codeOf(() => store.update("a", {}, ["parent"]))).toBe("INVALID_ARGUMENT");
      expect(codeOf(() => store.update("none", {}, []))).toBe("NOT_FOUND");
    });

    const { reopen } = options;
    if (reopen === undefined) return;
    it("has everything after it was opened again", () => {
      addCommitted("c");
      add("a", "c");
      const before = store.all();
      store = reopen(store);
      expect(store.all()).toEqual(before);
      expect(store.ancestors("a").map((snapshot) => snapshot.name)).toEqual(["c"]);
    });
  });
}

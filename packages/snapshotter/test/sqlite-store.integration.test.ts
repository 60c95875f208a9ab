import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { openSqliteStore } from "../src/index.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "estargz-store-disk-"));
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=2m", "none", folder]);
});
afterEach(() => {
  execFileSync("umount", ["-l", folder]);
  rmSync(folder, { recursive: true, force: true });
});

it("says that the disk is full, changes nothing, and goes on when there is room again", () => {
  const store = openSqliteStore({ path: join(folder, "metadata.sqlite") });
  try {
    const create = (id: number): unknown =>
      store.create({ id, name: `snapshot ${id}`, parent: "", kind: "active", labels: { long: "x".repeat(3000) }, fallback: undefined });
    create(1);
    // More than fits: the disk is full after it.
    expect(() => writeFileSync(join(folder, "filler"), Buffer.alloc(4 << 20))).toThrow("ENOSPC");
    let id = 1;
    const fill = (): void => {
      for (;;) create((id += 1));
    };
    expect(fill).toThrow(expect.objectContaining({ code: "NO_SPACE" }));
    const before = store.all().length;
    expect(before).toBe(id - 1);
    expect(() => create(id)).toThrow(expect.objectContaining({ code: "NO_SPACE" }));
    expect(store.all()).toHaveLength(before);
    rmSync(join(folder, "filler"));
    create(id);
    expect(store.all()).toHaveLength(before + 1);
  } finally {
    store.close();
  }
});

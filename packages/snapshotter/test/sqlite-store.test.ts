import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { snapshotStoreSuite } from "@estargz/testing/suites";
import { afterAll, describe, expect, it } from "vitest";
import { openSqliteStore } from "../src/index.ts";

const folder = mkdtempSync(join(tmpdir(), "estargz-store-suite-"));
let opened = 0;
afterAll(() => rmSync(folder, { recursive: true, force: true }));

snapshotStoreSuite("SQLite on disk", {
  setup: () => {
    opened += 1;
    return openSqliteStore({ path: join(folder, `${opened}.sqlite`) });
  },
  reopen: (store) => {
    store.close();
    return openSqliteStore({ path: join(folder, `${opened}.sqlite`) });
  },
});

snapshotStoreSuite("SQLite in memory", { setup: () => openSqliteStore({ path: ":memory:" }) });

describe("opening a store", () => {
  it("fails with a typed error for a folder that does not exist", () => {
    expect(() => openSqliteStore({ path: join(folder, "no", "such", "folder") })).toThrow(expect.objectContaining({ code: "IO_ERROR" }));
  });
});

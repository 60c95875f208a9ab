import { copyFileSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EstargzError, isEstargzError } from "@estargz/interface";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openSqliteStore, type SnapshotStore } from "../src/index.ts";
import { operation } from "./arbitraries.ts";
import { digestOf } from "./fake-layers.ts";
import { Model, type Operation } from "./model.ts";

class Crash extends Error {}

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "estargz-store-"));
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

function apply(store: SnapshotStore, nextId: () => number, step: Operation): void {
  switch (step.type) {
    case "prepare":
    case "view":
      store.create({
        id: nextId(),
        name: step.key,
        parent: step.parent,
        kind: step.type === "view" ? "view" : "active",
        labels: step.labels,
      });
      break;
    case "remote": {
      // The snapshotter looks at the parent and at the key before it shows a layer.
      if (step.parent !== "" && !store.has(step.parent)) throw new EstargzError("NOT_FOUND", "no parent");
      if (step.parent !== "" && store.get(step.parent).kind !== "committed") throw new EstargzError("INVALID_ARGUMENT", "parent");
      if (store.has(step.key)) throw new EstargzError("ALREADY_EXISTS", "key");
      const id = nextId();
      const remote = { ref: step.ref, layerDigest: digestOf("1"), tocDigest: digestOf("2"), locations: [], prefetchBytes: 0 };
      const name = store.has(step.ref) ? `${step.ref}@` : step.ref;
      if (store.findRemote(step.ref, step.parent) !== undefined) return;
      store.create({ id, name, parent: step.parent, kind: "committed", labels: {}, remote });
      break;
    }
    case "commit":
      store.commit({ key: step.key, name: step.name, labels: step.labels, usage: { bytes: 1, inodes: 1 } });
      break;
    case "remove":
      store.remove(step.key);
      break;
    case "update":
      store.update(step.key, step.labels, step.paths);
      break;
  }
}

function stateOf(store: SnapshotStore): Record<string, unknown> {
  return Object.fromEntries(
    store.all().map(({ name, parent, kind, labels, remote }) => [name, { parent, kind, labels, ref: remote?.ref }]),
  );
}

function modelState(model: Model): Record<string, unknown> {
  return Object.fromEntries(model.snapshots);
}

/** Copies the database as a killed process would leave it. */
function copyOf(path: string, to: string): string {
  for (const suffix of ["", "-wal"]) {
    if (existsSync(`${path}${suffix}`)) copyFileSync(`${path}${suffix}`, `${to}${suffix}`);
    else rmSync(`${to}${suffix}`, { force: true });
  }
  return to;
}

function run(steps: readonly Operation[], crashes: boolean): void {
  const directory = mkdtempSync(join(folder, "run-"));
  const path = join(directory, "db");
  let onWrite: () => void = () => {};
  const store = openSqliteStore({ path, beforeWrite: () => onWrite() });
  let id = 0;
  const nextId = (): number => {
    id += 1;
    return id;
  };
  let model = new Model();
  const expectCopy = (expected: Model): void => {
    const copy = openSqliteStore({ path: copyOf(path, join(directory, "copy")) });
    expect(stateOf(copy)).toEqual(modelState(expected));
    copy.close();
    rmSync(join(directory, "copy"));
  };
  try {
    for (const step of steps) {
      const next = model.apply(step);
      // First with a crash before each of its writes: nothing of it may be seen afterwards.
      for (let crashAt = 1; crashes && next instanceof Model; crashAt += 1) {
        let writes = 0;
        onWrite = () => {
          writes += 1;
          if (writes !== crashAt) return;
          expectCopy(model);
          throw new Crash();
        };
        if (next === model) break;
        const before = model;
        try {
          apply(store, nextId, step);
        } catch (error) {
          if (!(error instanceof Crash)) throw error;
          expect(stateOf(store)).toEqual(modelState(before));
          continue;
        }
        model = next;
        break;
      }
      onWrite = () => {};
      if (next instanceof Model) {
        if (!crashes) apply(store, nextId, step);
        model = next;
        if (crashes) expectCopy(model);
      } else expect(() => apply(store, nextId, step)).toThrow(expect.objectContaining({ code: next.code }));
      expect(stateOf(store)).toEqual(modelState(model));
    }
  } finally {
    store.close();
    rmSync(directory, { recursive: true, force: true });
  }
}

describe("the SQLite store against a model", () => {
  it("does what the model does, after any operations", () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 40 }), (steps) => run(steps, false)),
      { numRuns: 60 },
    );
  });

  it("has all of an operation or nothing of it after a crash between any two writes", () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 15 }), (steps) => run(steps, true)),
      { numRuns: 25 },
    );
  });

  it("refuses to work after it was closed", () => {
    const store = openSqliteStore({ path: ":memory:" });
    store.close();
    store.close();
    let thrown: unknown;
    try {
      store.all();
    } catch (error) {
      thrown = error;
    }
    expect(isEstargzError(thrown, "CLOSED")).toBe(true);
  });
});

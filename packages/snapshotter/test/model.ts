import type { SnapshotKind } from "../src/index.ts";

/** A snapshot as the model knows it. */
export interface ModelSnapshot {
  readonly parent: string;
  readonly kind: SnapshotKind;
  readonly labels: Readonly<Record<string, string>>;
  /** The chain ID of a remote snapshot. */
  readonly ref: string | undefined;
}

/** An operation on snapshots. */
export type Operation =
  | { readonly type: "prepare" | "view"; readonly key: string; readonly parent: string; readonly labels: Readonly<Record<string, string>> }
  | { readonly type: "remote"; readonly key: string; readonly parent: string; readonly ref: string }
  | { readonly type: "commit"; readonly key: string; readonly name: string; readonly labels: Readonly<Record<string, string>> }
  | { readonly type: "remove"; readonly key: string }
  | { readonly type: "update"; readonly key: string; readonly labels: Readonly<Record<string, string>>; readonly paths: readonly string[] };

/** containerd's rules for snapshots in the plainest form: a map that is copied. */
export class Model {
  readonly snapshots: ReadonlyMap<string, ModelSnapshot>;

  constructor(snapshots: ReadonlyMap<string, ModelSnapshot> = new Map()) {
    this.snapshots = snapshots;
  }

  /** The state after an operation, or the code it has to fail with. */
  apply(operation: Operation): Model | { readonly code: string } {
    switch (operation.type) {
      case "prepare":
      case "view":
        return this.#create(operation.key, operation.parent, operation.type === "prepare" ? "active" : "view", operation.labels);
      case "remote":
        return this.#remote(operation.key, operation.parent, operation.ref);
      case "commit":
        return this.#commit(operation.key, operation.name, operation.labels);
      case "remove":
        return this.#remove(operation.key);
      case "update":
        return this.#update(operation.key, operation.labels, operation.paths);
    }
  }

  #with(name: string, snapshot: ModelSnapshot): Model {
    return new Model(new Map([...this.snapshots, [name, snapshot]]));
  }

  #parentProblem(parent: string): { readonly code: string } | undefined {
    if (parent === "") return undefined;
    const found = this.snapshots.get(parent);
    if (found === undefined) return { code: "NOT_FOUND" };
    return found.kind === "committed" ? undefined : { code: "INVALID_ARGUMENT" };
  }

  #create(key: string, parent: string, kind: SnapshotKind, labels: Readonly<Record<string, string>>): Model | { readonly code: string } {
    const problem = this.#parentProblem(parent);
    if (problem !== undefined) return problem;
    return this.snapshots.has(key) ? { code: "ALREADY_EXISTS" } : this.#with(key, { parent, kind, labels, ref: undefined });
  }

  /** A remote prepare always answers ALREADY_EXISTS when it worked; the caller looks at the state. */
  #remote(key: string, parent: string, ref: string): Model | { readonly code: string } {
    const problem = this.#parentProblem(parent);
    if (problem !== undefined) return problem;
    if (this.snapshots.has(key)) return { code: "ALREADY_EXISTS" };
    const held = [...this.snapshots.values()].some((snapshot) => snapshot.parent === parent && snapshot.ref === ref);
    if (held) return this;
    return this.#with(this.snapshots.has(ref) ? `${ref}@` : ref, { parent, kind: "committed", labels: {}, ref });
  }

  #commit(key: string, name: string, labels: Readonly<Record<string, string>>): Model | { readonly code: string } {
    if (this.snapshots.has(name)) return { code: "ALREADY_EXISTS" };
    const found = this.snapshots.get(key);
    if (found === undefined) return { code: "NOT_FOUND" };
    if (found.kind !== "active") return { code: "FAILED_PRECONDITION" };
    const next = new Map(this.snapshots);
    next.delete(key);
    next.set(name, { ...found, kind: "committed", labels });
    return new Model(next);
  }

  #remove(key: string): Model | { readonly code: string } {
    if (!this.snapshots.has(key)) return { code: "NOT_FOUND" };
    if ([...this.snapshots.values()].some((snapshot) => snapshot.parent === key)) return { code: "FAILED_PRECONDITION" };
    const next = new Map(this.snapshots);
    next.delete(key);
    return new Model(next);
  }

  #update(key: string, labels: Readonly<Record<string, string>>, paths: readonly string[]): Model | { readonly code: string } {
    const found = this.snapshots.get(key);
    if (found === undefined) return { code: "NOT_FOUND" };
    if (paths.some((path) => path !== "labels" && !path.startsWith("labels."))) return { code: "INVALID_ARGUMENT" };
    let next: Record<string, string> = paths.length === 0 ? { ...labels } : { ...found.labels };
    for (const path of paths) {
      if (path === "labels") next = { ...labels };
      else next[path.slice(7)] = labels[path.slice(7)] ?? "";
    }
    const kept = Object.fromEntries(Object.entries(next).filter(([, value]) => value !== ""));
    return this.#with(key, { ...found, labels: kept });
  }
}

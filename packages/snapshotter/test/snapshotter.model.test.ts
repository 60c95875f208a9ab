import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EstargzError } from "@estargz/interface";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createOverlaySnapshotter, type OverlaySnapshotter } from "../src/index.ts";
import { operation } from "./arbitraries.ts";
import { digestOf, FakeLayers } from "./fake-layers.ts";
import { Model, type Operation } from "./model.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "estargz-model-"));
});
afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

const REF = "containerd.io/snapshot.ref";

/** Names of remote snapshots whose chain ID was taken end with their id, which the model does not know. */
function plain(name: string): string {
  return name.replace(/@\d+$/, "@");
}

/** A machine whose process can be killed before its nth write, and started again. */
class Machine {
  readonly root: string;
  readonly layers: FakeLayers;
  snapshotter: OverlaySnapshotter;
  #writesLeft = Number.POSITIVE_INFINITY;

  constructor(root: string) {
    this.root = root;
    this.layers = new FakeLayers(join(root, "layers"));
    this.layers.failure = () => this.#write();
    this.snapshotter = this.#start();
  }

  #write(): void {
    this.#writesLeft -= 1;
    if (this.#writesLeft < 0) throw new EstargzError("IO_ERROR", "killed");
  }

  #start(): OverlaySnapshotter {
    return createOverlaySnapshotter({ root: this.root, layers: this.layers, beforeWrite: () => this.#write() });
  }

  killAfter(writes: number): void {
    this.#writesLeft = writes;
  }

  get killed(): boolean {
    return this.#writesLeft < 0;
  }

  async restart(): Promise<void> {
    await this.snapshotter.close();
    this.#writesLeft = Number.POSITIVE_INFINITY;
    this.snapshotter = this.#start();
    await this.snapshotter.restore();
  }

  async apply(step: Operation): Promise<void> {
    const { snapshotter } = this;
    if (step.type === "prepare") await snapshotter.prepare(step);
    else if (step.type === "view") await snapshotter.view(step);
    else if (step.type === "commit") await snapshotter.commit(step);
    else if (step.type === "remove") await snapshotter.remove(step.key);
    else if (step.type === "update") await snapshotter.update({ name: step.key, labels: step.labels }, step.paths);
    else if (step.type === "remote") {
      const labels = {
        [REF]: step.ref,
        "containerd.io/snapshot/cri.image-ref": "registry.example/image:1",
        "containerd.io/snapshot/cri.layer-digest": digestOf("1"),
        "containerd.io/snapshot/stargz/toc.digest": digestOf("2"),
      };
      await snapshotter.prepare({ key: step.key, parent: step.parent, labels });
    }
  }

  async state(): Promise<Record<string, unknown>> {
    const infos = await this.snapshotter.walk();
    return Object.fromEntries(
      infos.map(({ name, parent, kind, labels }) => {
        const ref = labels[REF];
        const own = Object.fromEntries(Object.entries(labels).filter(([key]) => !key.startsWith("containerd.io/snapshot")));
        return [plain(name), { parent: plain(parent), kind, labels: own, ref }];
      }),
    );
  }

  /** Directories and attached layers are exactly those of the snapshots. */
  async expectNoLeftovers(): Promise<void> {
    await this.snapshotter.cleanup();
    const counts = this.snapshotter.counts();
    const total = counts.active + counts.view + counts.committed;
    expect((await readdir(join(this.root, "snapshots"))).length).toBe(total - counts.remote);
    expect(this.layers.list().length).toBe(counts.remote);
  }
}

async function outcome(machine: Machine, step: Operation): Promise<string> {
  try {
    await machine.apply(step);
    return "OK";
  } catch (error) {
    return (error as { code: string }).code;
  }
}

async function run(steps: readonly (readonly [Operation, number | undefined])[]): Promise<void> {
  const root = await mkdtemp(join(folder, "run-"));
  const machine = new Machine(root);
  let model = new Model();
  try {
    for (const [step, killAfter] of steps) {
      // A parent that another parent's remote snapshot took the name of has no name that the model can know.
      if ("parent" in step && step.parent.endsWith("@")) continue;
      const next = model.apply(step);
      if (killAfter !== undefined) machine.killAfter(killAfter);
      const code = await outcome(machine, step);
      if (machine.killed) {
        await machine.restart();
        const state = await machine.state();
        const happened = next instanceof Model && canonical(state) === canonical(Object.fromEntries(next.snapshots));
        if (happened) model = next;
        expect(state).toEqual(Object.fromEntries(model.snapshots));
        await machine.expectNoLeftovers();
        continue;
      }
      machine.killAfter(Number.POSITIVE_INFINITY);
      const expected = next instanceof Model ? (step.type === "remote" ? "ALREADY_EXISTS" : "OK") : next.code;
      expect([step, code]).toEqual([step, expected]);
      if (next instanceof Model) model = next;
      expect(await machine.state()).toEqual(Object.fromEntries(model.snapshots));
    }
    await machine.expectNoLeftovers();
  } finally {
    await machine.snapshotter.close();
    await rm(root, { recursive: true, force: true });
  }
}

/** JSON with the keys of every object in order. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === "object" && inner !== null
      ? Object.fromEntries(Object.entries(inner).toSorted(([left], [right]) => (left < right ? -1 : 1)))
      : inner,
  );
}

describe("the snapshotter against a model", () => {
  it("does what the model does and leaves nothing behind", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(operation, { maxLength: 25 }), (steps) => run(steps.map((step) => [step, undefined] as const))),
      { numRuns: 40 },
    );
  });

  it("is whole after being killed between any two writes, to disk or of a layer", async () => {
    const step = fc.tuple(operation, fc.option(fc.nat({ max: 7 }), { nil: undefined }));
    await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 20 }), run), { numRuns: 60 });
  });
});

import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { nodeRecordFiles, type RecordFiles } from "../src/store/record-files.ts";
import { type LayerRecord, StoreDirectory } from "../src/store/store-directory.ts";
import { NO_DIGEST } from "./test-source.ts";

const KEY = "aa-bb";
const MARKS = { data: [1, 2, 3] } as const;

let root: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "estargz-records-"));
});

afterEach(async () => {
  await rm(root, { recursive: true, force: true });
});

function record(owners: readonly string[]): LayerRecord {
  return { layerDigest: NO_DIGEST, tocDigest: NO_DIGEST, number: 7, owners, locations: [], lastUsedMs: 1 };
}

/** Files of a process that dies at its nth call; of a write, `tornShare` is done then. */
function dyingFiles(atCall: number, tornShare: number): RecordFiles & { readonly dead: boolean } {
  let calls = 0;
  let dead = false;
  const step = (): void => {
    if (dead) throw new Error("dead");
    calls++;
    dead = calls === atCall;
  };
  const write = (path: string, text: string): void => {
    step();
    nodeRecordFiles.write(path, dead ? text.slice(0, Math.floor(text.length * tornShare)) : text);
    if (dead) throw new Error("dead");
  };
  const rename = (from: string, to: string): void => {
    step();
    if (dead) throw new Error("dead");
    nodeRecordFiles.rename(from, to);
  };
  return {
    get dead() {
      return dead;
    },
    write,
    rename,
    remove(path) {
      step();
      if (dead) throw new Error("dead");
      nodeRecordFiles.remove(path);
    },
  };
}

/** What a process got done before it died. */
interface Life {
  readonly owners: string[];
  readonly numbers: number[];
  marked: boolean;
}

async function live(files: RecordFiles): Promise<Life> {
  const done: Life = { owners: [], numbers: [], marked: false };
  const directory = await StoreDirectory.open(root, files);
  try {
    for (const owner of ["a", "b"]) {
      directory.writeRecord(KEY, record([...done.owners, owner]));
      done.owners.push(owner);
      done.numbers.push(directory.takeNumber());
    }
    directory.writeCleanMark(new Map([[KEY, MARKS]]));
    done.marked = true;
  } catch {
    // Dead.
  } finally {
    directory.close();
  }
  return done;
}

describe("records and marks of a process that stops", () => {
  it.each([0, 0.5, 1])("at any call, %f of a write done: are the former ones or the new ones, whole", async (tornShare) => {
    let atCall = 1;
    for (let dead = true; dead; atCall++) {
      await rm(root, { recursive: true, force: true });
      await mkdir(join(root, "layers", KEY), { recursive: true });
      const files = dyingFiles(atCall, tornShare);
      const { owners, marked } = await live(files);
      dead = files.dead;
      const again = await StoreDirectory.open(root);
      try {
        const kept = await again.readRecord(KEY);
        if (owners.length > 0 || kept !== undefined) {
          expect([record(owners), record([...owners, owners.length === 0 ? "a" : "b"])]).toContainEqual(kept);
        }
        // A stop is clean only when that was said whole, and nothing was written afterwards.
        expect(again.marks(KEY)).toEqual(marked ? MARKS : undefined);
      } finally {
        again.close();
      }
      // Said once.
      const third = await StoreDirectory.open(root);
      expect(third.marks(KEY)).toBeUndefined();
      third.close();
    }
    expect(atCall).toBeGreaterThan(8);
  });

  it("a clean mark that cannot be taken away is not believed", async () => {
    await live(nodeRecordFiles);
    const directory = await StoreDirectory.open(root, {
      ...nodeRecordFiles,
      remove() {
        throw new Error("read-only");
      },
    });
    expect(directory.marks(KEY)).toBeUndefined();
    directory.close();
  });

  it("a number of a directory is not given again", async () => {
    await mkdir(join(root, "layers", KEY), { recursive: true });
    const taken = new Set<number>();
    for (let life = 0; life < 5; life++) {
      const { numbers } = await live(nodeRecordFiles);
      expect(numbers).toHaveLength(2);
      for (const number of numbers) {
        expect(taken.has(number)).toBe(false);
        taken.add(number);
      }
    }
  });
});

import { expect, it } from "vitest";
import { createOpenFiles } from "../src/store/open-files.ts";
import { nodeStoreFiles, type StoreFiles } from "../src/store/store-files.ts";

it("keeps few files open over all owners, and never gives one owner's to another", () => {
  const open = new Map<number, string>();
  let next = 1;
  const calls: StoreFiles = {
    ...nodeStoreFiles,
    open(path) {
      open.set(next, path);
      return next++;
    },
    close(file) {
      if (!open.delete(file)) throw new Error(`${file} is closed twice`);
    },
  };
  const files = createOpenFiles(calls, 3);
  const [one, other] = [{}, {}];
  const first = files.get(one, "data");
  expect(files.get(one, "data")).toBe(first);
  expect(files.get(other, "data")).not.toBe(first);
  files.get(other, "bitmap");
  files.get(one, "data");
  files.get(one, "bitmap");
  expect([...open.values()]).toEqual(["data", "bitmap", "bitmap"]);
  expect(files.get(one, "data")).toBe(first);
  files.close(one);
  expect([...open.values()]).toEqual(["bitmap"]);
  files.close(other);
  files.close(other);
  expect(open.size).toBe(0);
});

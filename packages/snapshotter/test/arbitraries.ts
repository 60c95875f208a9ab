import fc from "fast-check";
import type { Operation } from "./model.ts";

const name = fc.constantFrom("a", "b", "c", "d", "e", "f");
const parent = fc.oneof({ weight: 2, arbitrary: fc.constant("") }, { weight: 3, arbitrary: name });
const labels = fc.dictionary(fc.constantFrom("x", "y", "containerd.io/gc.root"), fc.constantFrom("1", "2", "3"), {
  maxKeys: 3,
  noNullPrototype: true,
});
const paths = fc.uniqueArray(fc.constantFrom("labels", "labels.x", "labels.y", "parent"), { maxLength: 2 });

/** Operations over few names, so that they meet. */
export const operation: fc.Arbitrary<Operation> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ type: fc.constant("prepare" as const), key: name, parent, labels }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("view" as const), key: name, parent, labels }) },
  { weight: 3, arbitrary: fc.record({ type: fc.constant("remote" as const), key: name, parent, ref: name }) },
  { weight: 4, arbitrary: fc.record({ type: fc.constant("commit" as const), key: name, name, labels }) },
  { weight: 3, arbitrary: fc.record({ type: fc.constant("remove" as const), key: name }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("update" as const), key: name, labels, paths }) },
);

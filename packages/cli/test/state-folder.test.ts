import { expect, test } from "vitest";
import { defaultStateFolder } from "../src/run/state-folder.ts";

test.each([
  [0, { HOME: "/root" }, "/var/lib/estargz"],
  [1000, { HOME: "/home/me" }, "/home/me/.local/state/estargz"],
  [1000, { HOME: "/home/me", XDG_STATE_HOME: "/state" }, "/state/estargz"],
])("layers of user %d with %j are kept in %s", (uid, env, expected) => {
  expect(defaultStateFolder(env, uid)).toBe(expected);
});

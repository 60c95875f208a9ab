import { expect, test } from "vitest";
import { modeText } from "../src/commands/list.ts";

test.each([
  ["reg", 0o644, "-rw-r--r--"],
  ["reg", 0o4755, "-rwsr-xr-x"],
  ["reg", 0o2644, "-rw-r-Sr--"],
  ["dir", 0o1777, "drwxrwxrwt"],
  ["dir", 0o1776, "drwxrwxrwT"],
  ["symlink", 0o777, "lrwxrwxrwx"],
  ["char", 0o600, "crw-------"],
] as const)("%s %o is %s", (type, mode, text) => {
  expect(modeText({ type, mode })).toBe(text);
});

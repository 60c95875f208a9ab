import { expect, test } from "vitest";
import * as api from "../src/index.ts";

test("what the package exports", () => {
  expect(Object.keys(api).sort()).toEqual(["TOC_IMAGE_SUFFIX", "convertImage", "copyImage", "formatRecord", "parseRecord"]);
});

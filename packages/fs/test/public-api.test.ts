import { expect, it } from "vitest";
import * as api from "../src/index.ts";

it("exports these names", () => {
  expect(Object.keys(api).sort()).toEqual([
    "Errno",
    "LayerIndex",
    "buildLayerIndex",
    "createDevFuseDriver",
    "createFuseNativeDriver",
    "createLayerFileSystem",
    "dataFilePath",
    "errnoOf",
    "isDevFuseUsable",
    "loadLayerIndex",
    "mountLayers",
  ]);
});

import { expect, it } from "vitest";
import * as main from "../src/index.ts";
import * as node from "../src/node/index.ts";

it("exports these names and no others", () => {
  expect(Object.keys(main).sort()).toMatchInlineSnapshot(`
    [
      "DEFAULT_LIMITS",
      "FIRST_USE_ANNOTATION",
      "LAYER_DIGEST_ANNOTATION",
      "MAX_FOOTER_BYTES",
      "NO_PREFETCH_LANDMARK",
      "PREFETCH_LANDMARK",
      "TOC_DIGEST_ANNOTATION",
      "UNCOMPRESSED_SIZE_ANNOTATION",
      "ZSTD_ANNOTATION_PREFIXES",
      "asAsyncBuffer",
      "asPmtilesSource",
      "asZipReader",
      "convertTar",
      "decodeChunk",
      "decodeFirstUse",
      "decodeMember",
      "defaultCodecs",
      "device",
      "directory",
      "encodeFirstUse",
      "fifo",
      "file",
      "fromAsyncBuffer",
      "fromBlob",
      "fromBytes",
      "fromPmtilesSource",
      "fromUrl",
      "fromZipReader",
      "hardLink",
      "openLayer",
      "openLayerFromToc",
      "parseFooter",
      "portableGzip",
      "portableZstd",
      "readTar",
      "readerFromRead",
      "symlink",
      "writeLayer",
      "writeTar",
    ]
  `);
  expect(Object.keys(node).sort()).toMatchInlineSnapshot(`
    [
      "openFile",
      "readFolder",
    ]
  `);
});

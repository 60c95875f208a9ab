import { fileURLToPath } from "node:url";
import { isEstargzError } from "@estargz/interface";
import { describe, expect, it } from "vitest";
import { fuzz, readCorpus } from "../fuzz/fuzzer.ts";
import { targets } from "../fuzz/targets.ts";
import { parseFooter } from "../src/footer.ts";
import { convertTar, fromBytes, openLayer, openLayerFromToc } from "../src/index.ts";

const corpus = (target: string): Map<string, Uint8Array> => readCorpus(fileURLToPath(new URL(`../fuzz/corpus/${target}`, import.meta.url)));
const blob = {
  size: 1 << 20,
  readAt: () => Promise.reject(new Error()),
  readTail: () => Promise.reject(new Error()),
  readRanges: () => Promise.reject(new Error()),
};

async function codeOf(run: () => unknown): Promise<string> {
  try {
    await run();
  } catch (error) {
    return isEstargzError(error) ? error.code : String(error);
  }
  return "no error";
}

const OPENERS: Readonly<Record<string, (bytes: Uint8Array) => unknown>> = {
  footer: (bytes) => parseFooter(bytes, 1 << 20),
  blob: (bytes) => openLayer(fromBytes(bytes), { allowUnverified: true }),
  toc: (bytes) =>
    openLayerFromToc({ blob, tocBytes: bytes, format: "estargz", blobSize: 1 << 20, payloadEnd: 1 << 20, allowUnverified: true }),
  tar: async (bytes) => {
    for await (const _piece of convertTar(bytes, { prioritizedFiles: ["a"] }).bytes) continue;
  },
};

describe("hostile input that crashes other readers", () => {
  it.each([
    ["footer", "H1-extra-of-four-bytes", "NOT_ESTARGZ"],
    ["footer", "H2-negative-offset", "INVALID_FOOTER"],
    ["footer", "H3-offset-past-the-end", "INVALID_FOOTER"],
    ["footer", "H4-gzip-header-without-extra", "NOT_ESTARGZ"],
    ["footer", "H7-huge-lengths", "INVALID_FOOTER"],
    ["blob", "H1-extra-of-four-bytes", "NOT_ESTARGZ"],
    ["blob", "H2-negative-offset", "INVALID_FOOTER"],
    ["blob", "H3-offset-past-the-end", "INVALID_FOOTER"],
    ["blob", "H4-gzip-header-without-extra", "NOT_ESTARGZ"],
    ["blob", "H5-null", "INVALID_TOC"],
    ["blob", "H5-entries-null", "INVALID_TOC"],
    ["blob", "H7-huge-lengths", "INVALID_FOOTER"],
    ["blob", "H10-toc-bomb", "LIMIT_EXCEEDED"],
    ["toc", "H5-null", "INVALID_TOC"],
    ["toc", "H5-entries-null", "INVALID_TOC"],
    ["toc", "H6-huge-size-tiny-chunks", "INVALID_TOC"],
    ["toc", "H6-huge-zeros", "LIMIT_EXCEEDED"],
    ["toc", "H8-hard-link-cycle", "INVALID_TOC"],
    ["toc", "H8-hard-link-to-itself", "INVALID_TOC"],
    ["toc", "H8-hard-link-to-a-directory", "INVALID_TOC"],
    ["tar", "H9-hard-links-to-each-other", "INVALID_TAR"],
    ["toc", "H10-negative-chunk-size", "INVALID_TOC"],
    ["toc", "H10-deep-path", "LIMIT_EXCEEDED"],
    ["toc", "H10-huge-xattr", "LIMIT_EXCEEDED"],
    ["toc", "H10-huge-chunk", "LIMIT_EXCEEDED"],
    ["toc", "H11-version-999", "INVALID_TOC"],
    ["toc", "H11-unknown-type", "INVALID_TOC"],
    ["toc", "H11-duplicate-names", "no error"],
    ["toc", "H11-offsets-out-of-order", "no error"],
    ["toc", "V7-gap-between-chunks", "INVALID_TOC"],
    ["toc", "near-key", "INVALID_TOC"],
  ])("%s %s gives %s", async (target, name, code) => {
    const bytes = corpus(target).get(name)!;
    expect(await codeOf(() => OPENERS[target]!(bytes))).toBe(code);
  });
});

describe("fuzzing, a short run", () => {
  it.each(Object.entries(targets))("%s", async (name, target) => {
    const result = await fuzz(target, corpus(name).values(), { maxRuns: 300, seed: 7 });
    expect(result.runs).toBeGreaterThanOrEqual(300);
  });
});

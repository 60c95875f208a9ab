import type { Layer } from "@estargz/interface";
import { describe, expect, it } from "vitest";
import { CASES } from "./layers/layer-cases.ts";
import { damageSuite } from "./layers/layer-damage-suite.ts";
import { at, cleanName, codeOf, expectLayerEquals, noise, sha256 } from "./layers/layer-expectations.ts";
import { sortSuite } from "./layers/layer-sort-suite.ts";
import { type LayerSuiteOptions, type LayerUnderTest, NO_OPTIONS } from "./layers/layer-under-test.ts";
import { sourceOf, variants } from "./layers/layer-variants.ts";
import { buildTar, type TarSpec } from "./layers/tar-builder.ts";

/**
 * The conformance list of the eStargz reference, for any writer and reader of layers: what is written shows the same tree, verifies,
 * and is laid out as the format says. Prefixes of names, flavours of tar, compression of the source and of the layer vary over all cases.
 */
export function layerSuite(name: string, subject: LayerSuiteOptions): void {
  const open = (layer: LayerUnderTest, blob = layer.blob): Promise<Layer> =>
    subject.open(subject.fromBytes(blob), { tocDigest: layer.tocDigest, annotations: layer.annotations, externalToc: layer.externalToc });

  describe(`${name}: write and open`, () => {
    it.each(CASES.map((item, i) => [item.name, item, i] as const))(
      "%s",
      async (_name, item, i) => {
        for (const variant of variants(i)) {
          const written = await subject.write(sourceOf(item.specs, variant), { ...variant.options, ...item.options });
          const layer = await open(written);
          await expectLayerEquals(
            layer,
            item.specs.map((spec) => ({ ...spec, name: cleanName(variant.prefix + spec.name) + (spec.name.endsWith("/") ? "/" : "") })),
          );
          await item.check?.(layer);
          const report = await layer.verify("full");
          expect(report).toMatchObject({ blobDigest: sha256(written.blob), diffId: written.diffId, tocDigest: written.tocDigest });
        }
      },
      120_000,
    );

    it("keeps the tar's bytes when lossless, and its DiffID where the TOC is no part of it", async () => {
      const tar = sourceOf(CASES[2]?.specs ?? [], { prefix: "./", flavour: "gnu", source: "plain", options: NO_OPTIONS });
      for (const options of [{ externalToc: true }, { compression: "zstd", level: 3 }, {}] as const) {
        const all = { ...NO_OPTIONS, ...options, lossless: true };
        const written = await subject.write(tar, all);
        const unpacked = subject.decompress(written.blob, all.compression);
        expect(Buffer.from(unpacked.subarray(0, tar.length)).equals(tar)).toBe(true);
        expect(written.diffId === sha256(tar)).toBe(all.externalToc || all.compression === "zstd");
      }
    });

    it("leaves a TOC out that the input has; lossless, it is an error", async () => {
      const tar = buildTar([
        { name: "a", content: "x" },
        { name: "stargz.index.json", content: "{}" },
      ]);
      const layer = await open(await subject.write(tar, NO_OPTIONS));
      expect(layer.lookup("stargz.index.json")).toBeUndefined();
      expect(await codeOf(subject.write(tar, { ...NO_OPTIONS, lossless: true, externalToc: true }))).toBe("UNSUPPORTED");
    });
  });

  describe(`${name}: layout`, () => {
    const specs: TarSpec[] = [
      { name: "d/" },
      { name: "d/a", content: noise(10_000) },
      { name: "d/empty" },
      { name: "d/b", content: noise(5000) },
    ];

    it("starts a member at every chunk: from its offset the chunk comes first", async () => {
      for (const compression of ["gzip", "zstd"] as const) {
        const written = await subject.write(buildTar(specs), { ...NO_OPTIONS, compression, level: 3, chunkSizeBytes: 4096 });
        const layer = await open(written);
        const starts = layer.chunks.map((chunk) => chunk.blobOffset);
        expect(new Set(starts).size).toBe(starts.length);
        for (const chunk of layer.chunks) {
          const { offset, length } = layer.span(chunk);
          const unpacked = subject.decompress(written.blob.subarray(offset, offset + length), compression);
          expect(sha256(unpacked.subarray(0, chunk.length))).toBe(chunk.digest);
          expect(
            Buffer.from(layer.decode(written.blob.subarray(offset, offset + length), chunk)).equals(unpacked.subarray(0, chunk.length)),
          ).toBe(true);
        }
      }
    });

    it("has one landmark at the root, first of all without prioritised files", async () => {
      const layer = await open(await subject.write(buildTar(specs), NO_OPTIONS));
      expect(layer.lookup(".no.prefetch.landmark")).toMatchObject({ size: 1, mode: 0 });
      expect(layer.lookup(".prefetch.landmark")).toBeUndefined();
      expect(layer.prefetchEnd).toBe(0);
      expect([...(await layer.readFile(at(layer, ".no.prefetch.landmark")))]).toEqual([0x0f]);
    });

    it("gives the same bytes for the same input", async () => {
      const options = { ...NO_OPTIONS, prioritizedFiles: ["d/b"] };
      const [first, second] = [await subject.write(buildTar(specs), options), await subject.write(buildTar(specs), options)];
      expect(Buffer.from(first.blob).equals(second.blob)).toBe(true);
    });
  });

  sortSuite(name, subject, open);
  damageSuite(name, subject, open);
}

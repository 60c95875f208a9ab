import { isEstargzError, type ReaderAt } from "@estargz/interface";
import { describe, expect, it } from "vitest";
import { at, codeOf, noise } from "./layer-expectations.ts";
import { type LayerSuiteOptions, NO_OPTIONS, type Opener } from "./layer-under-test.ts";
import { buildTar, type TarSpec } from "./tar-builder.ts";

/** What must never happen with damaged, exchanged or failing blobs. */
export function damageSuite(name: string, subject: LayerSuiteOptions, open: Opener): void {
  const specs: readonly TarSpec[] = [
    { name: "d/" },
    { name: "d/small", content: "small" },
    { name: "d/big", content: noise(40_000) },
    { name: "l", type: "symlink", linkName: "d" },
  ];

  describe(`${name}: damage`, () => {
    it.each([
      ["no regular file", [{ name: "d/" }, { name: "l", type: "symlink", linkName: "d" }]],
      [
        "small files",
        [
          { name: "a", content: "a" },
          { name: "b", content: "b" },
        ],
      ],
      ["files and others", specs],
    ] as const)("verifies a layer with %s", async (_case, of) => {
      for (const minMemberBytes of [0, 8000]) {
        const layer = await open(await subject.write(buildTar(of), { ...NO_OPTIONS, chunkSizeBytes: 4096, minMemberBytes }));
        for (const level of ["toc", "chunks", "full"] as const) expect((await layer.verify(level)).level).toBe(level);
      }
    });

    it("refuses the TOC of another layer", async () => {
      const written = await subject.write(buildTar(specs), NO_OPTIONS);
      const other = await subject.write(buildTar([{ name: "other", content: "x" }]), NO_OPTIONS);
      expect(await codeOf(open({ ...written, tocDigest: other.tocDigest }))).toBe("DIGEST_MISMATCH");
    });

    it.each(["gzip", "zstd"] as const)("never gives wrong bytes of a damaged %s layer", async (compression) => {
      const written = await subject.write(buildTar(specs), {
        ...NO_OPTIONS,
        compression,
        level: 3,
        chunkSizeBytes: 4096,
        minMemberBytes: 6000,
      });
      const original = await open(written);
      const big = at(original, "d/big");
      const end = original.payloadEnd;
      for (let position = big.chunks[0]?.blobOffset ?? 0; position < end; position += 101) {
        const damaged = written.blob.slice();
        damaged[position] = (damaged[position] as number) ^ 0x20;
        const layer = await open(written, damaged);
        const outcome = await layer.readFile(at(layer, "d/big")).then(
          (bytes) => (Buffer.from(bytes).equals(noise(40_000)) ? "right" : "wrong"),
          (error: unknown) => (isEstargzError(error) ? error.code : String(error)),
        );
        expect(["right", "DIGEST_MISMATCH", "INVALID_COMPRESSION"]).toContain(outcome);
      }
    });

    it("passes a failing source's error on, and never old bytes", async () => {
      const written = await subject.write(buildTar(specs), { ...NO_OPTIONS, chunkSizeBytes: 4096 });
      const reader = subject.fromBytes(written.blob);
      let failing = false;
      const failure = new Error("the source fails");
      const check = (): Promise<void> => (failing ? Promise.reject(failure) : Promise.resolve());
      const flaky: ReaderAt = {
        size: written.blob.length,
        readAt: (offset, length, options) => check().then(() => reader.readAt(offset, length, options)),
        readTail: (length, options) => check().then(() => reader.readTail(length, options)),
        readRanges: (ranges, options) => check().then(() => reader.readRanges(ranges, options)),
      };
      const layer = await subject.open(flaky, { tocDigest: written.tocDigest, annotations: written.annotations, externalToc: undefined });
      const big = at(layer, "d/big");
      expect((await layer.readFile(big)).length).toBe(40_000);
      failing = true;
      await expect(layer.readFile(big)).rejects.toBe(failure);
      await expect(layer.readChunk(big.chunks[3] as (typeof big.chunks)[number])).rejects.toBe(failure);
      failing = false;
      expect((await layer.readFile(big)).length).toBe(40_000);
    });

    it("finds a tar that says something else than the TOC", async () => {
      const written = await subject.write(buildTar(specs), { ...NO_OPTIONS, externalToc: true });
      const other = await subject.write(buildTar(specs.map((spec) => (spec.name === "l" ? { ...spec, linkName: "x" } : spec))), {
        ...NO_OPTIONS,
        externalToc: true,
      });
      const layer = await open({ ...other, tocDigest: written.tocDigest, externalToc: written.externalToc });
      expect((await layer.verify("chunks")).level).toBe("chunks");
      await expect(layer.verify("full")).rejects.toMatchObject({ code: "DIGEST_MISMATCH", details: { path: "l", field: "linkName" } });
    });
  });
}

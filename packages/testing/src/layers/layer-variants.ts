import { gzipSync, zstdCompressSync } from "node:zlib";
import { type LayerSuiteWriteOptions, NO_OPTIONS } from "./layer-under-test.ts";
import { buildTar, type TarFlavour, type TarSpec } from "./tar-builder.ts";

/** One combination of what doesn't change what a layer shows. */
export interface Variant {
  readonly prefix: "" | "./" | "/" | "../";
  readonly flavour: TarFlavour;
  readonly source: "plain" | "gzip" | "zstd";
  readonly options: LayerSuiteWriteOptions;
}

const WRITERS: readonly Partial<LayerSuiteWriteOptions>[] = [
  { level: 0 },
  { level: 1 },
  { level: 9 },
  { level: 6, minMemberBytes: 64_000 },
  { compression: "zstd", level: 1 },
  { compression: "zstd", level: 3, minMemberBytes: 64_000 },
  { compression: "zstd", level: 9 },
  { externalToc: true, level: 0 },
  { externalToc: true, level: 6 },
  { externalToc: true, lossless: true },
  { lossless: true },
  { lossless: true, compression: "zstd", level: 3 },
];

/** Every prefix with every flavour of tar; writers and sources in turns, so that each meets each prefix and flavour in some case. */
export function variants(seed: number): Variant[] {
  const all: Variant[] = [];
  for (const prefix of ["", "./", "/", "../"] as const) {
    for (const flavour of ["ustar", "pax", "gnu"] as const) {
      const turn = all.length + seed;
      all.push({
        prefix,
        flavour,
        source: (["plain", "gzip", "zstd"] as const)[turn % 3] as Variant["source"],
        options: { ...NO_OPTIONS, ...WRITERS[turn % WRITERS.length] },
      });
    }
  }
  return all;
}

export function prefixed(specs: readonly TarSpec[], prefix: string): TarSpec[] {
  return specs.map((spec) => ({
    ...spec,
    name: prefix + spec.name,
    ...(spec.type === "hardlink" ? { linkName: prefix + (spec.linkName ?? "") } : {}),
  }));
}

export function sourceOf(specs: readonly TarSpec[], variant: Variant): Uint8Array {
  // The reference's tests have 100 more zeros at the end.
  const tar = buildTar(prefixed(specs, variant.prefix), variant.flavour, 1024 + 100);
  if (variant.source === "plain") return tar;
  return new Uint8Array(variant.source === "gzip" ? gzipSync(tar) : zstdCompressSync(tar));
}

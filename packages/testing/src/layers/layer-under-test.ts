import type { Digest, Layer, ReaderAt } from "@estargz/interface";

/** Options that a writer under test is asked for. */
export interface LayerSuiteWriteOptions {
  readonly compression: "gzip" | "zstd";
  readonly level: number;
  readonly externalToc: boolean;
  readonly lossless: boolean;
  readonly chunkSizeBytes: number | undefined;
  /** 0 for a member for each chunk. */
  readonly minMemberBytes: number;
  readonly prioritizedFiles: readonly string[];
  readonly allowMissingFiles: boolean;
}

/** A layer as a writer under test gave it. */
export interface LayerUnderTest {
  readonly blob: Uint8Array;
  readonly diffId: Digest;
  readonly tocDigest: Digest;
  readonly annotations: Readonly<Record<string, string>>;
  readonly externalToc: Uint8Array | undefined;
  readonly missingFiles: readonly string[];
}

/** Writer and opener under test. */
export interface LayerSuiteOptions {
  write(tar: Uint8Array, options: LayerSuiteWriteOptions): Promise<LayerUnderTest>;
  open(
    blob: ReaderAt,
    options: {
      readonly tocDigest: Digest;
      readonly annotations: Readonly<Record<string, string>>;
      readonly externalToc: Uint8Array | undefined;
    },
  ): Promise<Layer>;
  /** A reader of bytes in memory. */
  fromBytes(bytes: Uint8Array): ReaderAt;
  /** The uncompressed stream of a blob, read by a tool that is not under test. */
  decompress(blob: Uint8Array, compression: "gzip" | "zstd"): Uint8Array;
}

/** Options of a plain eStargz layer. */
export const NO_OPTIONS: LayerSuiteWriteOptions = {
  compression: "gzip",
  level: 6,
  externalToc: false,
  lossless: false,
  chunkSizeBytes: undefined,
  minMemberBytes: 0,
  prioritizedFiles: [],
  allowMissingFiles: false,
};

/** Opens what a writer gave, or another blob in its place. */
export type Opener = (layer: LayerUnderTest, blob?: Uint8Array) => Promise<Layer>;
